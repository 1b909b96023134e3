package main

import (
	"context"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/operator-framework/api/pkg/manifests"
	"github.com/operator-framework/operator-registry/alpha/declcfg"
	"github.com/operator-framework/operator-registry/alpha/property"
)

// checkCatalog does what `opm validate` does, and compares the bundle's entry with what `opm render` would make of the
// bundle.
func checkCatalog(folder string, bundle *manifests.Bundle) (findings []finding) {
	say := func(format string, arguments ...any) {
		findings = append(findings, finding{"catalog", true, fmt.Sprintf(format, arguments...)})
	}
	config, err := declcfg.LoadFS(context.Background(), os.DirFS(folder))
	if err != nil {
		say("%v", err)
		return findings
	}
	if _, err := declcfg.ConvertToModel(*config); err != nil {
		say("%v", err)
	}
	if len(config.Others) > 0 {
		say("%d objects of schemas that OLM does not know", len(config.Others))
	}

	var entry *declcfg.Bundle
	for index := range config.Bundles {
		if config.Bundles[index].Name == bundle.Name {
			entry = &config.Bundles[index]
		}
	}
	if entry == nil {
		say("has no bundle %s", bundle.Name)
		return findings
	}
	want := expectedProperties(bundle)
	if got := readable(entry.Properties); !slices.Equal(got, readable(want)) {
		say("the properties of %s are not those of the bundle:\n  in the catalog:\n    %s\n  of the bundle:\n    %s", bundle.Name,
			strings.Join(got, "\n    "), strings.Join(readable(want), "\n    "))
	}
	if got, want := parsed(entry.Properties), parsed(want); !reflect.DeepEqual(got.CSVMetadatas, want.CSVMetadatas) {
		say("%s of %s is not what the CSV says", property.TypeCSVMetadata, bundle.Name)
	}

	var images []string
	for _, image := range bundle.CSV.Spec.RelatedImages {
		images = append(images, image.Name+"="+image.Image)
	}
	for _, deployment := range bundle.CSV.Spec.InstallStrategy.StrategySpec.DeploymentSpecs {
		for _, container := range deployment.Spec.Template.Spec.Containers {
			if !slices.ContainsFunc(images, func(known string) bool { return strings.HasSuffix(known, "="+container.Image) }) {
				say("container %s runs %s, which is none of the CSV's relatedImages", container.Name, container.Image)
			}
		}
	}
	var got []string
	for _, image := range entry.RelatedImages {
		// opm adds the bundle's own image, without a name.
		if image.Name != "" || image.Image != entry.Image {
			got = append(got, image.Name+"="+image.Image)
		}
	}
	slices.Sort(images)
	slices.Sort(got)
	if !slices.Equal(got, images) {
		say("relatedImages are %v, in the CSV %v", got, images)
	}

	for _, channel := range bundle.Channels {
		index := slices.IndexFunc(config.Channels, func(known declcfg.Channel) bool { return known.Name == channel })
		if index < 0 {
			say("has no channel %s, which the bundle's annotations name", channel)
			continue
		}
		at := slices.IndexFunc(config.Channels[index].Entries, func(known declcfg.ChannelEntry) bool { return known.Name == bundle.Name })
		if at < 0 {
			say("channel %s has no entry %s", channel, bundle.Name)
			continue
		}
		got := config.Channels[index].Entries[at]
		if skip := bundle.CSV.Annotations["olm.skipRange"]; got.Replaces != bundle.CSV.Spec.Replaces || got.SkipRange != skip {
			say("channel %s: %s replaces %q and skips %q, in the CSV %q and %q", channel, bundle.Name,
				got.Replaces, got.SkipRange, bundle.CSV.Spec.Replaces, skip)
		}
	}
	for _, known := range config.Packages {
		if known.DefaultChannel != bundle.DefaultChannel {
			say("package %s: the default channel is %s, in the annotations %s", known.Name, known.DefaultChannel, bundle.DefaultChannel)
		}
	}
	return findings
}

func expectedProperties(bundle *manifests.Bundle) []property.Property {
	properties := []property.Property{property.MustBuildPackage(bundle.Package, bundle.CSV.Spec.Version.String())}
	for _, definition := range bundle.V1CRDs {
		for _, version := range definition.Spec.Versions {
			properties = append(properties, property.MustBuildGVK(definition.Spec.Group, version.Name, definition.Spec.Names.Kind))
		}
	}
	return append(properties, property.MustBuildCSVMetadata(*bundle.CSV))
}

// readable are the properties as sorted lines. The CSV's metadata, which is most of them, is left to a comparison of
// values: its JSON depends on the order of its members.
func readable(properties []property.Property) (lines []string) {
	for _, one := range properties {
		if one.Type == property.TypeCSVMetadata {
			lines = append(lines, one.Type)
		} else if known, err := property.Parse([]property.Property{one}); err != nil {
			lines = append(lines, one.Type+": "+err.Error())
		} else {
			lines = append(lines, fmt.Sprintf("%s %+v%+v%s", one.Type, known.Packages, known.GVKs, known.Others))
		}
	}
	slices.Sort(lines)
	return lines
}

func parsed(properties []property.Property) *property.Properties {
	known, err := property.Parse(properties)
	if err != nil {
		return &property.Properties{}
	}
	return known
}
