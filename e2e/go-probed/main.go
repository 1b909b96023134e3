// probed is an application whose health can be switched: what the scenarios of probes run in their pods.
//
//	probed http|https|tcp|grpc|none [PORT]   serves until it is told to end
//	probed fail, probed mend                 in the same container: probes fail from now on, or pass again
//	probed check                             ends as an exec probe should
//
// With FAILING=true in its environment it begins in failure, as an application that is slow to start.
package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
)

// failing is there while probes are to fail. It goes with the container, so a restart mends.
const failing = "/tmp/failing"

// service is the one that grpc probes may name besides the empty one.
const service = "probed"

func main() {
	if len(os.Args) < 2 {
		end(fmt.Errorf("usage: probed http|https|tcp|grpc|none [PORT] | fail | mend | check"))
	}
	switch os.Args[1] {
	case "fail":
		end(os.WriteFile(failing, nil, 0o666))
	case "mend":
		end(os.Remove(failing))
	case "check":
		if !healthy() {
			end(fmt.Errorf("told to fail"))
		}
		return
	}
	if os.Getenv("FAILING") == "true" {
		if err := os.WriteFile(failing, nil, 0o666); err != nil {
			end(err)
		}
	}
	port := ""
	if len(os.Args) > 2 {
		port = ":" + os.Args[2]
	}
	go func() { end(serve(os.Args[1], port)) }()
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
}

func serve(kind, port string) error {
	switch kind {
	case "http":
		return http.ListenAndServe(port, http.HandlerFunc(answer))
	case "https":
		certificate, err := selfSigned()
		if err != nil {
			return err
		}
		config := &tls.Config{Certificates: []tls.Certificate{certificate}}
		server := &http.Server{Addr: port, Handler: http.HandlerFunc(answer), TLSConfig: config}
		return server.ListenAndServeTLS("", "")
	case "tcp":
		return listenWhileHealthy(port)
	case "grpc":
		return serveHealth(port)
	case "none":
		select {}
	}
	return fmt.Errorf("unknown kind %q", kind)
}

func healthy() bool {
	_, err := os.Stat(failing)
	return os.IsNotExist(err)
}

func answer(w http.ResponseWriter, _ *http.Request) {
	if !healthy() {
		http.Error(w, "told to fail", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "healthy")
}

// listenWhileHealthy closes the port while probes are to fail: a TCP probe sees nothing else.
func listenWhileHealthy(port string) error {
	for {
		listener, err := net.Listen("tcp", port)
		if err != nil {
			return err
		}
		go func() {
			for {
				connection, err := listener.Accept()
				if err != nil {
					return
				}
				connection.Close()
			}
		}()
		await(false)
		listener.Close()
		await(true)
	}
}

// await returns once healthy() is wanted.
func await(wanted bool) {
	for healthy() != wanted {
		time.Sleep(50 * time.Millisecond)
	}
}

func serveHealth(port string) error {
	listener, err := net.Listen("tcp", port)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	grpc_health_v1.RegisterHealthServer(server, &switched{health.NewServer()})
	return server.Serve(listener)
}

// switched answers as grpc-go's own health service does, and NOT_SERVING while probes are to fail.
type switched struct{ *health.Server }

func (s *switched) Check(ctx context.Context, request *grpc_health_v1.HealthCheckRequest) (*grpc_health_v1.HealthCheckResponse, error) {
	status := grpc_health_v1.HealthCheckResponse_SERVING
	if !healthy() {
		status = grpc_health_v1.HealthCheckResponse_NOT_SERVING
	}
	s.SetServingStatus("", status)
	s.SetServingStatus(service, status)
	return s.Server.Check(ctx, request)
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
		DNSNames:     []string{"probed"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "probed:", err)
		os.Exit(1)
	}
	os.Exit(0)
}
