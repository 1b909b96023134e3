package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/operator-framework/api/crds"
	"github.com/operator-framework/api/pkg/manifests"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/install"
	v1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	definitions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/schema/pruning"
	"k8s.io/apiextensions-apiserver/pkg/apiserver/validation"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

var scheme = runtime.NewScheme()

func init() {
	install.Install(scheme)
}

// checkSchemas says what an API server would: of the CSV, that it fits OLM's definition and has no field that this does
// not know; of each definition, that it would be taken, CEL rules and their costs included. The validator "crd" leaves
// out whatever is inside a schema.
func checkSchemas(bundle *manifests.Bundle) (findings []finding) {
	say := func(check, format string, arguments ...any) {
		findings = append(findings, finding{check, true, fmt.Sprintf(format, arguments...)})
	}
	for _, object := range bundle.Objects {
		if object.GetKind() == bundle.CSV.Kind {
			for _, problem := range checkAgainst(crds.ClusterServiceVersion(), object) {
				say("csv-schema", "%s", problem)
			}
		}
	}
	for _, definition := range bundle.V1CRDs {
		for _, problem := range checkDefinition(definition.DeepCopy()) {
			say("crd-schema", "%s: %s", definition.Name, problem)
		}
		// OLM v1 takes no conversion webhooks, and an upgrade could not be undone behind one.
		if conversion := definition.Spec.Conversion; conversion != nil && conversion.Strategy != v1.NoneConverter {
			say("crd-schema", "%s: spec.conversion.strategy is %s", definition.Name, conversion.Strategy)
		}
	}
	return findings
}

func checkDefinition(definition *v1.CustomResourceDefinition) (problems []string) {
	v1.SetObjectDefaults_CustomResourceDefinition(definition)
	for _, version := range definition.Spec.Versions {
		if version.Storage {
			// The API server fills it in before it looks.
			definition.Status.StoredVersions = []string{version.Name}
		}
	}
	internal := &apiextensions.CustomResourceDefinition{}
	if err := scheme.Convert(definition, internal, nil); err != nil {
		return []string{err.Error()}
	}
	for _, problem := range definitions.ValidateCustomResourceDefinition(context.Background(), internal) {
		problems = append(problems, problem.Error())
	}
	return problems
}

func checkAgainst(definition *v1.CustomResourceDefinition, object *unstructured.Unstructured) (problems []string) {
	internal := &apiextensions.CustomResourceDefinition{}
	if err := scheme.Convert(definition.DeepCopy(), internal, nil); err != nil {
		return []string{err.Error()}
	}
	_, version, _ := strings.Cut(object.GetAPIVersion(), "/")
	properties, err := apiextensions.GetSchemaForVersion(internal, version)
	if err != nil || properties == nil {
		return []string{fmt.Sprintf("OLM has no schema of version %q: %v", version, err)}
	}
	structural, err := schema.NewStructural(properties.OpenAPIV3Schema)
	if err != nil {
		return []string{err.Error()}
	}
	validator, _, err := validation.NewSchemaValidator(properties.OpenAPIV3Schema)
	if err != nil {
		return []string{err.Error()}
	}
	for _, problem := range validation.ValidateCustomResource(nil, object.Object, validator) {
		problems = append(problems, problem.Error())
	}
	options := schema.UnknownFieldPathOptions{TrackUnknownFieldPaths: true}
	for _, path := range pruning.PruneWithOptions(object.DeepCopy().Object, structural, true, options) {
		problems = append(problems, "unknown field "+path)
	}
	return problems
}
