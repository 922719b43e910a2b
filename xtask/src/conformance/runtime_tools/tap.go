// Package tap is the part of github.com/mndrix/tap-go that the validation programs use, which Debian does not have.
// It writes the Test Anything Protocol, version 13, to standard output.
package tap

import (
	"encoding/json"
	"fmt"
	"strings"
)

// T counts the tests of one program.
type T struct {
	count int
	todo  string
}

// New begins a report.
func New() *T { return &T{} }

// Header announces the version and, unless it is 0, the number of tests.
func (t *T) Header(tests int) {
	fmt.Println("TAP version 13")
	if tests > 0 {
		fmt.Printf("1..%d\n", tests)
	}
}

// Ok reports a test that passed or failed.
func (t *T) Ok(passed bool, description string) {
	word := "ok"
	if !passed {
		word = "not ok"
	}
	t.count++
	fmt.Printf("%s %d - %s%s\n", word, t.count, oneLine(description), t.todo)
}

// Pass reports a test that passed.
func (t *T) Pass(description string) { t.Ok(true, description) }

// Fail reports a test that failed.
func (t *T) Fail(description string) { t.Ok(false, description) }

// Skip reports tests that were not made.
func (t *T) Skip(tests int, reason string) {
	for ; tests > 0; tests-- {
		t.count++
		fmt.Printf("ok %d # SKIP %s\n", t.count, oneLine(reason))
	}
}

// Todo returns a report whose next failure is expected; it shares no count, so that only one test may follow.
func (t *T) Todo() *T {
	t.count++
	return &T{count: t.count - 1, todo: " # TODO"}
}

// AutoPlan ends the report with the number of tests.
func (t *T) AutoPlan() { fmt.Printf("1..%d\n", t.count) }

// Diagnostic explains the test before.
func (t *T) Diagnostic(message string) {
	for _, line := range strings.Split(strings.TrimRight(message, "\n"), "\n") {
		fmt.Println("# " + line)
	}
}

// Diagnosticf is Diagnostic with a format.
func (t *T) Diagnosticf(format string, values ...interface{}) { t.Diagnostic(fmt.Sprintf(format, values...)) }

// YAML explains the test before by a document; JSON is YAML.
func (t *T) YAML(document interface{}) error {
	text, err := json.MarshalIndent(document, "  ", "  ")
	if err == nil {
		fmt.Printf("  ---\n  %s\n  ...\n", text)
	}
	return err
}

func oneLine(text string) string { return strings.ReplaceAll(text, "\n", " ") }
