//! What runs, as whom, and with which variables.

use super::*;

#[test]
fn entrypoint_and_command_go_together_as_in_docker() {
    let words =
        |text: Option<&str>| text.map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    for (of_image, command, entrypoint, asked, expected) in [
        (None, Some("c d"), None, "", "c d"),
        (Some("e"), Some("c d"), None, "", "e c d"),
        (Some("e"), Some("c d"), None, "x", "e x"),
        (Some("e"), Some("c d"), Some("n"), "", "n"),
        (Some("e"), Some("c d"), Some("n"), "x", "n x"),
        (Some("e"), Some("c d"), Some(""), "x", "x"),
        (Some("e"), None, None, "", "e"),
    ] {
        let defaults = Defaults { entrypoint: words(of_image), cmd: words(command), ..Defaults::default() };
        let process = Process {
            entrypoint: words(entrypoint),
            command: words(Some(asked)).unwrap(),
            ..Process::default()
        };
        let request = Request { process, ..Request::default() };
        assert_eq!(command_line(&request, &defaults).unwrap().join(" "), expected);
    }
    let nothing = command_line(&Request::default(), &Defaults::default()).unwrap_err().to_string();
    assert_eq!(nothing, "command: the image says nothing to run; name a program behind it");
    let reset = Request {
        process: Process { entrypoint: Some(Vec::new()), ..Process::default() },
        ..Request::default()
    };
    let image = Defaults { cmd: words(Some("c")), ..Defaults::default() };
    assert!(command_line(&reset, &image).is_err(), "an entrypoint takes the image's command away");
}

#[test]
fn later_variables_win_and_names_alone_take_away() {
    let mut stage = with(|request| {
        request.process.environment =
            ["B=3", "A", "PATH=/bin", "HOME=/h"].map(|text| text.parse().unwrap()).into();
        request.process.terminal = true;
    });
    stage.defaults.env = vec!["A=1".to_owned(), "B=2".to_owned()];
    let config = stage.json();
    assert_eq!(
        config["process"]["env"],
        json!(["PATH=/bin", "HOSTNAME=0123456789ab", "TERM=xterm", "B=3", "HOME=/h"])
    );
    assert_eq!(config["process"]["terminal"], true);
}

#[test]
fn users_come_from_the_image() {
    let mut stage = with(|_| {});
    stage.defaults.user = "www".to_owned();
    let user = json!({ "uid": 33, "gid": 34, "additionalGids": [34, 4, 29] });
    assert_eq!(stage.json()["process"]["user"], user);
    stage.request.process.user = Some("33:4".parse().unwrap());
    stage.request.process.groups = vec!["audio".to_owned(), "77".to_owned()];
    assert_eq!(
        stage.json()["process"]["user"],
        json!({ "uid": 33, "gid": 4, "additionalGids": [4, 29, 77] })
    );
    stage.request.process.user = Some("nobody".parse().unwrap());
    assert!(stage.error().contains("no such user"));
}

#[test]
fn a_score_below_the_own_one_is_the_own_one() {
    let mut stage = with(|request| request.process.oom_score_adjust = Some(-500));
    assert_eq!(stage.json()["process"]["oomScoreAdj"], -500);
    stage.facts.capabilities = 0x1ff_feff_ffff;
    let configured = stage.configured().unwrap();
    assert_eq!(configured.config.process.unwrap().oom_score_adj, Some(0));
    assert!(configured.warnings[0].contains("CAP_SYS_RESOURCE"), "{:?}", configured.warnings);
}
