use serde_json::json;

use super::*;

fn rendered(template: &str) -> Result<String, String> {
    let value = json!({
        "ID": "0123", "Name": "/web server", "Pid": 42, "Running": true, "Health": null,
        "Args": ["-c", "sleep 1"], "Labels": { "a.b": "1", "c": "two" }, "Empty": {},
        "State": { "Code": 0, "Ratio": 1.5 },
    });
    let labels = value["Labels"].as_object().cloned();
    let template = Template::parse(template).map_err(|error| error.to_string())?;
    let subject = Subject { value: &value, labels: labels.as_ref().map_or(Labels::None, Labels::Of) };
    template.render(subject).map_err(|error| error.to_string())
}

#[test]
fn templates_say_what_go_would() {
    for (template, expected) in [
        ("plain } text", "plain } text"),
        ("{{.ID}}: {{.State.Ratio}}", "0123: 1.5"),
        ("{{ .Args }} {{.Labels}} {{.Health}}", "[-c sleep 1] map[a.b:1 c:two] <nil>"),
        ("{{json .Args}}{{json .Health}}", r#"["-c","sleep 1"]null"#),
        ("{{json .State.Ratio | printf \"<%s>\"}}", "<1.5>"),
        (r#"{{index .Labels "a.b"}} {{.Labels.c}} {{.Labels.d}}"#, "1 two <no value>"),
        (r#"{{.Label "c"}}{{.Label "missing"}}"#, "two"),
        ("{{index .Args 1}} {{len .Args}} {{len .Name}}", "sleep 1 2 11"),
        ("{{range .Args}}<{{.}}>{{end}}", "<-c><sleep 1>"),
        ("{{range $k, $v := .Labels}}{{$k}}={{$v}},{{$.Pid}} {{end}}", "a.b=1,42 c=two,42 "),
        ("{{range $i, $a := .Args}}{{if $i}}, {{end}}{{$a}}{{end}}", "-c, sleep 1"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{range .Args}}{{break}}{{end}}{{range .Args}}{{continue}}x{{end}}", ""),
        ("{{if .Running}}up{{else}}down{{end}}", "up"),
        ("{{if .State.Code}}a{{else if eq .Pid 41 42}}b{{else}}c{{end}}", "b"),
        ("{{if .Health}}{{.Health.Status}}{{end}}", ""),
        ("{{with .State}}{{.Ratio}}{{end}}{{with .Health}}x{{else}}-{{end}}", "1.5-"),
        ("{{with $s := .State}}{{$s.Code}}{{end}}", "0"),
        ("{{$n := .Name}}{{$n = \"x\"}}{{$n}}", "x"),
        ("a {{- .Pid -}} b {{/* note */}}c", "a42b c"),
        ("{{.ID | upper}}{{lower \"ABC\"}}{{title .Name}}", "0123abc/Web Server"),
        (r#"{{join .Args "|"}} {{index (split .Name " ") 1}}"#, "-c|sleep 1 server"),
        (
            r#"{{printf "%5d|%-5s|%05d|%q|%.2f|%x|%t%%" .Pid "ab" 7 .ID 1.5 255 true}}"#,
            "   42|ab   |00007|\"0123\"|1.50|ff|true%",
        ),
        ("{{println .Pid .ID}}{{print .Pid 1 .ID}}", "42 0123\n42 10123"),
        ("{{truncate .Name 4}}{{pad \"x\" 1 2}}|{{slice .ID 1 3}}", "/web x  |12"),
        ("{{and .Running .Pid}} {{or .Health .ID}} {{not .Running}}", "42 0123 false"),
        ("{{if and (gt .Pid 41) (ne .ID \"x\")}}y{{end}}{{lt 1 2}}", "ytrue"),
        ("{{(index .Args 0)}} {{`raw\\n`}} {{\"tab\\t\"}}", "-c raw\\n tab\t"),
        ("{{html \"<a href='x'>\" .Pid}}", "&lt;a href=&#39;x&#39;&gt;42"),
        ("{{.Name | urlquery}}", "%2Fweb+server"),
        (
            r#"{{define "x"}}<{{.}}{{$}}>{{end}}{{template "x" .Pid}}{{range .Args}}{{template "x" .}}{{end}}"#,
            "<4242><-c-c><sleep 1sleep 1>",
        ),
        (r#"{{template "x"}}{{define "x"}}none{{end}}"#, "none"),
        (r#"{{block "x" .State}}{{.Code}}{{end}}{{template "x" .State}}"#, "00"),
    ] {
        assert_eq!(rendered(template).as_deref(), Ok(expected), "wrong for {template}");
    }
}

#[test]
fn mistakes_are_told_with_their_place() {
    for (template, at, told) in [
        ("{{.Nam}}", 3, "there is no field Nam: there are Args, Empty, Health, ID,"),
        ("ä {{.State.Nam}}", 11, "there is no field Nam: there are Code, Ratio"),
        ("{{.Pid.X}}", 7, "a number has no field X"),
        ("{{.ID", 1, "{{ without }}"),
        ("{{if .ID}}x", 3, "if without {{end}}"),
        ("x{{end}}", 4, "end without if, with or range"),
        ("{{else}}", 3, "else without if, with or range"),
        ("{{if 1}}{{else}}{{else}}{{end}}", 19, "a second else of one if"),
        ("{{}}", 1, "there is nothing between the braces"),
        ("{{frob .}}", 3, "there is no function frob: there are and, or,"),
        ("{{template \"x\"}}", 3, "no template \"x\" is defined"),
        ("{{template x}}", 12, "the name of a template is expected here"),
        ("{{define \"x\"}}y", 3, "define without {{end}}"),
        ("{{if 1}}{{define \"x\"}}{{end}}{{end}}", 11, "define stands in something else"),
        (
            "{{define \"x\"}}{{template \"x\"}}{{end}}{{template \"x\"}}",
            17,
            "template \"x\" stands in 100 others",
        ),
        ("{{range .Args}}{{block \"x\" .}}{{break}}{{end}}{{end}}", 33, "break outside of range"),
        ("{{html}}", 3, "html takes arguments"),
        ("{{break}}", 3, "break outside of range"),
        ("{{\"x}}", 3, "a string without its end \""),
        ("{{.ID | 1}}", 9, "a function is expected behind |"),
        ("{{index .Args 5}}", 3, "index 5 of a list of 2"),
        ("{{lower .Pid}}", 3, "lower wants a text, not a number"),
        ("{{printf \"%d\" .ID}}", 3, "printf: %d wants a whole number, not 0123"),
        ("{{range .Pid}}{{end}}", 9, "range over a number"),
        ("{{$x}}", 3, "there is no variable $x"),
        ("{{.ID .Pid}}", 3, "this is no function"),
        ("{{(.ID}}", 3, "( without )"),
        ("{{.ID ; .Pid}}", 7, "';' begins nothing that is known"),
        ("{{/* x", 1, "a comment without */"),
    ] {
        let error = rendered(template).unwrap_err();
        let expected = format!("template, character {at}: {told}");
        assert!(error.starts_with(&expected), "for {template}: {error}, and not {expected}");
    }
}
