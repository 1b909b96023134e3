package main

import (
	"fmt"
	"os"

	"sigs.k8s.io/yaml"
)

// acceptedWarning is a line of accepted.yaml.
type acceptedWarning struct {
	// Check is the name of the check that warns.
	Check string `json:"check"`
	// Warning is its whole text.
	Warning string `json:"warning"`
	// Reason says why it may stay.
	Reason string `json:"reason"`

	used bool
}

type acceptedWarnings []*acceptedWarning

func readAccepted(file string) (acceptedWarnings, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var accepted acceptedWarnings
	if err := yaml.UnmarshalStrict(text, &accepted); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for index, one := range accepted {
		if one.Check == "" || one.Warning == "" || one.Reason == "" {
			return nil, fmt.Errorf("%s: entry %d needs check, warning and reason", file, index)
		}
	}
	return accepted, nil
}

// reasonFor is why a finding may stay, or nothing. Errors may not.
func (accepted acceptedWarnings) reasonFor(finding finding) string {
	if finding.fatal {
		return ""
	}
	for _, one := range accepted {
		if one.Check == finding.check && one.Warning == finding.text {
			one.used = true
			return one.Reason
		}
	}
	return ""
}

// unused are the entries that fit no finding.
func (accepted acceptedWarnings) unused() (unused acceptedWarnings) {
	for _, one := range accepted {
		if !one.used {
			unused = append(unused, one)
		}
	}
	return unused
}
