import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import example.kekd.v1.CreateEnvelopeRequest;
import example.kekd.v1.EnvelopeServiceGrpc;
import example.kekd.v1.EnvelopeServiceGrpc.EnvelopeServiceBlockingStub;
import example.kekd.v1.GetEnvelopeRequest;
import example.kekd.v1.KMSBlob;
import example.kekd.v1.Reason;
import example.kekd.v1.WatchEnvelopesRequest;
import example.kekd.v1.WatchEnvelopesResponse;
import io.grpc.ManagedChannel;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.NettyChannelBuilder;
import io.grpc.protobuf.StatusProto;
import io.netty.channel.epoll.EpollDomainSocketChannel;
import io.netty.channel.epoll.EpollEventLoopGroup;
import io.netty.channel.unix.DomainSocketAddress;
import io.netty.util.concurrent.DefaultThreadFactory;
import java.util.Iterator;
import java.util.concurrent.TimeUnit;

/** Creates, gets and watches an envelope of kekd: java Example ADDRESS INDEX_NAME. */
public final class Example {
  private final EnvelopeServiceBlockingStub envelopes;
  private final String indexName;

  private Example(EnvelopeServiceBlockingStub envelopes, String indexName) {
    this.envelopes = envelopes;
    this.indexName = indexName;
  }

  public static void main(String[] arguments) {
    if (arguments.length != 2) {
      System.err.println("usage: java Example ADDRESS INDEX_NAME");
      System.exit(2);
    }
    var channel = channel(arguments[0]);
    try {
      var envelopes = EnvelopeServiceGrpc.newBlockingStub(channel);
      new Example(envelopes.withDeadlineAfter(10, TimeUnit.SECONDS), arguments[1]).run();
    } catch (StatusRuntimeException error) {
      System.err.println(error.getMessage());
      System.exit(1);
    } finally {
      channel.shutdownNow();
    }
  }

  private static ManagedChannel channel(String address) {
    if (!address.startsWith("unix:")) {
      return NettyChannelBuilder.forTarget(address).usePlaintext().build();
    }
    return NettyChannelBuilder.forAddress(new DomainSocketAddress(address.substring(5)))
        .eventLoopGroup(new EpollEventLoopGroup(1, new DefaultThreadFactory("kekd", true)))
        .channelType(EpollDomainSocketChannel.class)
        .overrideAuthority("localhost")
        .usePlaintext()
        .build();
  }

  private void run() {
    var request = WatchEnvelopesRequest.newBuilder().setPrefix(indexName).build();
    Iterator<WatchEnvelopesResponse> watch = envelopes.watchEnvelopes(request);
    while (true) {
      var message = watch.next();
      switch (message.getEventCase()) {
        case STARTED -> createAndGet();
        case CHANGE -> {
          var change = message.getChange();
          System.out.printf("WatchEnvelopes: %s %s%n", change.getKind(), change.getIndexName());
          return;
        }
        case RESYNC -> System.out.println("WatchEnvelopes: discard cached data");
        default -> {}
      }
    }
  }

  private void createAndGet() {
    var blob =
        KMSBlob.newBuilder()
            .setProvider("aws-kms")
            .setKeyId("alias/example")
            .setWrappedKek(ByteString.copyFromUtf8("kek"));
    var create = CreateEnvelopeRequest.newBuilder().setIndexName(indexName).setBlob(blob).build();
    envelopes.createEnvelope(create);
    showFailure("CreateEnvelope", () -> envelopes.createEnvelope(create));

    var get = GetEnvelopeRequest.newBuilder();
    var response = envelopes.getEnvelope(get.setIndexName(indexName).build());
    System.out.println("GetEnvelope: " + response.getBlob().getKeyId());
    showFailure(
        "GetEnvelope", () -> envelopes.getEnvelope(get.setIndexName("missing").build()));
  }

  /** Makes a call that fails, and prints the status code and the reason. */
  private static void showFailure(String method, Runnable call) {
    try {
      call.run();
    } catch (StatusRuntimeException error) {
      var code = error.getStatus().getCode();
      System.out.printf("%s: %s %s%n", method, code, reasonOf(error));
    }
  }

  /**
   * Returns the reason of a failed call. It is REASON_UNSPECIFIED if gRPC itself ended the call,
   * for example because the daemon can't be reached, and UNRECOGNIZED if the daemon is newer.
   */
  private static Reason reasonOf(StatusRuntimeException error) {
    Status status = StatusProto.fromThrowable(error);
    try {
      for (Any detail : status.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          var info = detail.unpack(ErrorInfo.class);
          if (info.getDomain().equals("kekd")) {
            return Reason.valueOf(info.getReason());
          }
        }
      }
    } catch (InvalidProtocolBufferException | IllegalArgumentException unknown) {
      return Reason.UNRECOGNIZED;
    }
    return Reason.REASON_UNSPECIFIED;
  }
}
