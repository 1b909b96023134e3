// httpbin is go-httpbin, the image of Istio's sample of that name, built from its Go module.
package main

import (
	"os"

	"github.com/mccutchen/go-httpbin/v2/httpbin/cmd"
)

func main() {
	os.Exit(cmd.Main())
}
