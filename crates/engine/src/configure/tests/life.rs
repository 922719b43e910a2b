//! How a container is stopped, and what tells whether it is well.

use super::*;

#[test]
fn a_stop_has_a_signal_and_patience() {
    let mut request = Request::default();
    let mut image = Defaults::default();
    assert_eq!(stop(&request, &image), bulkhead_shim::order::Stop { signal: 15, grace: 10 });
    (image.stop_signal, image.stop_timeout) = ("SIGQUIT".to_owned(), Some(3));
    assert_eq!(stop(&request, &image), bulkhead_shim::order::Stop { signal: 3, grace: 3 });
    (request.stop_signal, request.stop_timeout) = (Some("INT".parse().unwrap()), Some(Limit::Unlimited));
    assert_eq!(stop(&request, &image), bulkhead_shim::order::Stop { signal: 2, grace: 3_153_600_000 });
    request.stop_signal = None;
    image.stop_signal = "SIGFOO".to_owned();
    assert_eq!(stop(&request, &image).signal, 15);
}

#[test]
fn a_health_check_is_the_image_s_unless_another_is_asked_for() {
    let image = |test: &[&str]| Defaults {
        healthcheck: Some(bulkhead_store::Healthcheck {
            test: test.iter().map(|&word| word.to_owned()).collect(),
            interval: 7_000_000_000,
            ..bulkhead_store::Healthcheck::default()
        }),
        ..Defaults::default()
    };
    let decided = |request: &Request, test: &[&str]| health(request, &image(test));
    let none = Request::default();
    assert_eq!(health(&none, &Defaults::default()).unwrap(), None);
    assert_eq!(decided(&none, &["NONE"]).unwrap(), None);
    let check = decided(&none, &["CMD", "curl", "-f"]).unwrap().unwrap();
    assert_eq!(
        (check.command.join(" ").as_str(), check.interval, check.retries),
        ("curl -f", 7_000_000_000, 3)
    );
    assert_eq!(decided(&none, &["CMD-SHELL", "a b"]).unwrap().unwrap().command, ["/bin/sh", "-c", "a b"]);
    assert!(decided(&none, &["RUN", "x"]).is_err());
    let mut request = Request::default();
    request.health.command = "true".parse().unwrap();
    request.health.interval = Some("1s".parse().unwrap());
    request.health.on_failure = Some("restart".parse().unwrap());
    let check = decided(&request, &["CMD", "x"]).unwrap().unwrap();
    assert_eq!(
        (check.command[2].as_str(), check.interval, check.start_interval),
        ("true", 1_000_000_000, 5_000_000_000)
    );
    request.health.interval = Some("1us".parse().unwrap());
    assert!(decided(&request, &[]).unwrap_err().to_string().starts_with("--health-interval 1µs: "));
    request.health.command = "none".parse().unwrap();
    assert!(decided(&request, &[]).unwrap_err().to_string().contains("--health-cmd"));
}
