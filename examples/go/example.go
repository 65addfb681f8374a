// Creates, gets and watches an envelope of kekd: example ADDRESS INDEX_NAME
package main

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"

	kekdv1 "kekd.example/go/kekd/v1"
)

// reasonOf returns the reason of a failed call. It is REASON_UNSPECIFIED if gRPC itself ended the
// call, for example because the daemon can't be reached.
func reasonOf(err error) kekdv1.Reason {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.GetDomain() == "kekd" {
			return kekdv1.Reason(kekdv1.Reason_value[info.GetReason()])
		}
	}
	return kekdv1.Reason_REASON_UNSPECIFIED
}

func run(ctx context.Context, client kekdv1.EnvelopeServiceClient, indexName string) error {
	watch, err := client.WatchEnvelopes(ctx, &kekdv1.WatchEnvelopesRequest{Prefix: indexName})
	if err != nil {
		return err
	}
	for {
		message, err := watch.Recv()
		if err != nil {
			return err
		}
		switch event := message.GetEvent().(type) {
		case *kekdv1.WatchEnvelopesResponse_Started:
			if err := createAndGet(ctx, client, indexName); err != nil {
				return err
			}
		case *kekdv1.WatchEnvelopesResponse_Change:
			change := event.Change
			fmt.Printf("WatchEnvelopes: %v %s\n", change.GetKind(), change.GetIndexName())
			return nil
		case *kekdv1.WatchEnvelopesResponse_Resync:
			fmt.Println("WatchEnvelopes: discard cached data")
		}
	}
}

func createAndGet(
	ctx context.Context, client kekdv1.EnvelopeServiceClient, indexName string,
) error {
	request := &kekdv1.CreateEnvelopeRequest{
		IndexName: indexName,
		Blob: &kekdv1.KMSBlob{
			Provider:   "aws-kms",
			KeyId:      "alias/example",
			WrappedKek: []byte("kek"),
		},
	}
	if _, err := client.CreateEnvelope(ctx, request); err != nil {
		return err
	}
	_, err := client.CreateEnvelope(ctx, request)
	fmt.Println("CreateEnvelope:", status.Code(err), reasonOf(err))

	response, err := client.GetEnvelope(ctx, &kekdv1.GetEnvelopeRequest{IndexName: indexName})
	if err != nil {
		return err
	}
	fmt.Println("GetEnvelope:", response.GetBlob().GetKeyId())

	_, err = client.GetEnvelope(ctx, &kekdv1.GetEnvelopeRequest{IndexName: "missing"})
	fmt.Println("GetEnvelope:", status.Code(err), reasonOf(err))
	return nil
}

func main() {
	log.SetFlags(0)
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: example ADDRESS INDEX_NAME")
		os.Exit(2)
	}
	address, indexName := os.Args[1], os.Args[2]
	connection, err := grpc.Dial(address, grpc.WithInsecure())
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := run(ctx, kekdv1.NewEnvelopeServiceClient(connection), indexName); err != nil {
		log.Fatal(err)
	}
}
