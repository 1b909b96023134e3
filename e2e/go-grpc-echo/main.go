// grpc-echo is an application whose gRPC library reads xDS itself: what the scenarios of proxyless gRPC run in their pods.
//
//	grpc-echo serve NAME [PORT]   answers calls with its name and with who called, as the control plane allows it
//	grpc-echo call TARGET         keeps a channel to TARGET and makes calls when it is asked to
//	grpc-echo once TARGET         makes one call and prints the answer; without xds:/// in TARGET in plain text
//
// The first two answer by HTTP on port 8080: /ready, 200 once the server takes connections; /calls?count=N, the answers to N calls.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	xdscredentials "google.golang.org/grpc/credentials/xds"
	testing "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/xds"
)

// oneCall is the time that a call may take. It is longer than gRPC waits for a resource that it asked for.
const oneCall = 20 * time.Second

// mostCalls bounds what one question may cost.
const mostCalls = 1000

func main() {
	switch {
	case len(os.Args) >= 3 && os.Args[1] == "serve":
		port := "7070"
		if len(os.Args) > 3 {
			port = os.Args[3]
		}
		end(serve(os.Args[2], port))
	case len(os.Args) == 3 && os.Args[1] == "call":
		end(call(os.Args[2]))
	case len(os.Args) == 3 && os.Args[1] == "once":
		end(once(os.Args[2]))
	default:
		end(fmt.Errorf("usage: grpc-echo serve NAME [PORT] | call TARGET | once TARGET"))
	}
}

func end(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "grpc-echo:", err)
		os.Exit(1)
	}
}

// echo answers with its own name and that of the caller.
type echo struct {
	testing.UnimplementedTestServiceServer
	name string
}

func (e echo) UnaryCall(ctx context.Context, _ *testing.SimpleRequest) (*testing.SimpleResponse, error) {
	return &testing.SimpleResponse{ServerId: e.name, Username: caller(ctx)}, nil
}

// caller is the URI in the certificate that the other side showed; empty without one.
func caller(ctx context.Context) string {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return ""
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 || len(info.State.PeerCertificates[0].URIs) == 0 {
		return ""
	}
	return info.State.PeerCertificates[0].URIs[0].String()
}

func serve(name, port string) error {
	creds, err := xdscredentials.NewServerCredentials(
		xdscredentials.ServerOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return err
	}
	var serving atomic.Bool
	mode := xds.ServingModeCallback(func(address net.Addr, args xds.ServingModeChangeArgs) {
		log.Printf("%v: %v %v", address, args.Mode, args.Err)
		serving.Store(args.Mode == connectivity.ServingModeServing)
	})
	server, err := xds.NewGRPCServer(grpc.Creds(creds), mode)
	if err != nil {
		return err
	}
	testing.RegisterTestServiceServer(server, echo{name: name})
	listener, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	http.HandleFunc("/ready", func(answer http.ResponseWriter, _ *http.Request) {
		if !serving.Load() {
			answer.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	go func() { end(http.ListenAndServe(":8080", nil)) }()
	return server.Serve(listener)
}

func dial(target string) (testing.TestServiceClient, error) {
	creds, err := xdscredentials.NewClientCredentials(
		xdscredentials.ClientOptions{FallbackCreds: insecure.NewCredentials()})
	if err != nil {
		return nil, err
	}
	channel, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds))
	if err != nil {
		return nil, err
	}
	return testing.NewTestServiceClient(channel), nil
}

func once(target string) error {
	client, err := dial(target)
	if err != nil {
		return err
	}
	result := outcome{Answers: map[string]int{}, Errors: map[string]int{}}
	result.one(context.Background(), client)
	for problem := range result.Errors {
		return fmt.Errorf("%s: %s", target, problem)
	}
	for answer := range result.Answers {
		fmt.Println(answer)
	}
	return nil
}

func call(target string) error {
	client, err := dial(target)
	if err != nil {
		return err
	}
	http.HandleFunc("/ready", func(http.ResponseWriter, *http.Request) {})
	http.HandleFunc("/calls", func(answer http.ResponseWriter, request *http.Request) {
		count, err := strconv.Atoi(request.URL.Query().Get("count"))
		if err != nil || count < 1 || count > mostCalls {
			http.Error(answer, fmt.Sprintf("count must be from 1 to %d", mostCalls), http.StatusBadRequest)
			return
		}
		result := outcome{Answers: map[string]int{}, Errors: map[string]int{}}
		for range count {
			result.one(request.Context(), client)
		}
		answer.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(answer).Encode(result) // the asker may be gone
	})
	return http.ListenAndServe(":8080", nil)
}

// outcome is what calls came to.
type outcome struct {
	// Answers by the server's name, and the caller as it saw him: "v1", "v1 to spiffe://...".
	Answers map[string]int `json:"answers"`
	Errors  map[string]int `json:"errors"`
}

func (o *outcome) one(ctx context.Context, client testing.TestServiceClient) {
	ctx, cancel := context.WithTimeout(ctx, oneCall)
	defer cancel()
	response, err := client.UnaryCall(ctx, &testing.SimpleRequest{})
	if err != nil {
		if status.Code(err) == codes.Canceled {
			return
		}
		o.Errors[err.Error()]++
		return
	}
	key := response.ServerId
	if response.Username != "" {
		key += " to " + response.Username
	}
	o.Answers[key]++
}
