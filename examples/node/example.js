// Creates, gets and watches an envelope of kekd: node example.js ADDRESS INDEX_NAME
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import grpc from "@grpc/grpc-js";
import protoLoader from "@grpc/proto-loader";

const [address, indexName] = parseArgs({ allowPositionals: true }).positionals;
if (!indexName) {
  console.error("usage: node example.js ADDRESS INDEX_NAME");
  process.exit(2);
}

const folder = (path) => fileURLToPath(new URL(path, import.meta.url));
const definitions = protoLoader.loadSync(
  ["kekd/v1/envelope.proto", "google/rpc/error_details.proto", "google/rpc/status.proto"],
  {
    includeDirs: [folder("../../protos"), folder("../../third_party")],
    keepCase: true, // index_name, not indexName
    longs: Number,
    enums: String,
    oneofs: true, // a watch message names its event: message.event === "change"
  },
);
const { EnvelopeService } = grpc.loadPackageDefinition(definitions).kekd.v1;

// Returns the reason of a failed call, one of the enum kekd.v1.Reason. It is undefined if gRPC
// itself ended the call, for example because the daemon can't be reached.
function reasonOf(error) {
  const [status] = error.metadata.get("grpc-status-details-bin");
  if (!status) return undefined;
  return definitions["google.rpc.Status"]
    .deserialize(status)
    .details.filter(({ type_url }) => type_url === "type.googleapis.com/google.rpc.ErrorInfo")
    .map(({ value }) => definitions["google.rpc.ErrorInfo"].deserialize(value))
    .find(({ domain }) => domain === "kekd")?.reason;
}

// Calls a method and returns its response.
function call(method, request) {
  const deadline = Date.now() + 10_000;
  return new Promise((resolve, reject) => {
    client[method](request, { deadline }, (error, response) =>
      error ? reject(error) : resolve(response),
    );
  });
}

// Calls a method that fails, and prints the status code and the reason.
async function showFailure(method, request) {
  try {
    await call(method, request);
  } catch (error) {
    console.log(`${method}: ${grpc.status[error.code]} ${reasonOf(error)}`);
  }
}

async function createAndGet() {
  const blob = { provider: "aws-kms", key_id: "alias/example", wrapped_kek: Buffer.from("kek") };
  const request = { index_name: indexName, blob };
  await call("CreateEnvelope", request);
  await showFailure("CreateEnvelope", request);
  const { blob: stored } = await call("GetEnvelope", { index_name: indexName });
  console.log(`GetEnvelope: ${stored.key_id}`);
  await showFailure("GetEnvelope", { index_name: "missing" });
}

// Creates the envelope once the watch has started, and returns after its change.
async function follow(watch) {
  for await (const message of watch) {
    if (message.event === "started") {
      await createAndGet();
    } else if (message.event === "change") {
      console.log(`WatchEnvelopes: ${message.change.kind} ${message.change.index_name}`);
      return;
    } else if (message.event === "resync") {
      console.log("WatchEnvelopes: discard cached data");
    }
  }
}

const client = new EnvelopeService(address, grpc.credentials.createInsecure());
const watch = client.WatchEnvelopes({ prefix: indexName }, { deadline: Date.now() + 10_000 });
try {
  await follow(watch);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  watch.cancel();
  client.close();
}
