"""A daemon whose credentials for S3 end while it serves."""

import time

import kekd
from tests.fixtures.credentials import CredentialEndpoint, PickyS3
from tests.fixtures.daemon import StartDaemon
from tests.fixtures.s3 import REGION, make_bucket

BLOB = kekd.KMSBlob(provider="none")


def test_renewed_credentials_are_taken_up_without_a_restart(
    start_daemon: StartDaemon,
    picky_s3: PickyS3,
    s3_endpoint: str,
    credential_endpoint: CredentialEndpoint,
) -> None:
    bucket = make_bucket(s3_endpoint)
    daemon = start_daemon(
        *("--s3", bucket.name, "--s3-region", REGION, "--s3-endpoint", picky_s3.endpoint),
        env={"AWS_CONTAINER_CREDENTIALS_FULL_URI": credential_endpoint.url},
    )
    with kekd.Client(daemon.address) as client:
        client.create_index_kms(None, "i", BLOB)
        credential_endpoint.access_key = picky_s3.accepted = "second"
        refusals: list[str] = []
        end = time.monotonic() + 60
        while refusals[-1:] != ["none"] and time.monotonic() < end:
            try:
                assert client.get_index_kms(None, "i") == BLOB
                refusals.append("none")
            except kekd.StoreMisconfiguredError as error:  # until the daemon renews its credentials
                refusals.append(str(error))
        assert refusals.pop() == "none"
        assert all(
            f"({picky_s3.endpoint}) failed: S3 responded with ExpiredToken" in refusal
            for refusal in refusals
        )
        client.push_index_kms(None, "i", BLOB)
    assert daemon.process.poll() is None
