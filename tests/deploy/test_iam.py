"""The IAM policies allow exactly the actions that the code uses."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore import xform_name
from policy_sentry.querying.actions import get_action_data
from policy_sentry.util.arns import ARN

ROOT = Path(__file__).parents[2]
POLICIES = sorted((ROOT / "deploy" / "iam").glob("*.json"))
DAEMONS = "s3-daemon.json"
SERVICES = ("kms", "s3", "secretsmanager", "sts")
# Operations whose action has another name.
ACTIONS = {
    "kms:ReEncrypt": {"kms:ReEncryptFrom", "kms:ReEncryptTo"},
    "s3:DeleteObject": {"s3:DeleteObject", "s3:DeleteObjectVersion"},
    "s3:GetObject": {"s3:GetObject", "s3:GetObjectVersion"},
    "s3:HeadObject": {"s3:GetObject"},
    "s3:ListObjectVersions": {"s3:ListBucketVersions"},
    "s3:ListObjectsV2": {"s3:ListBucket"},
}
# Classes of botocore that call an operation.
ASKING_CLASSES = {"AssumeRoleCredentialFetcher": "sts:AssumeRole"}


def operations() -> dict[str, set[str]]:
    """Returns the operations of all services, by their method's name, such as create_secret."""
    found: dict[str, set[str]] = {}
    session = botocore.session.get_session()
    for service in SERVICES:
        for name in session.get_service_model(service).operation_names:
            found.setdefault(xform_name(name), set()).add(f"{service}:{name}")
    return found


def words(package: Path) -> Iterator[str]:
    """Returns each attribute, name and string in the code: everything that could name a method."""
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(attr=word) | ast.Name(id=word) | ast.Constant(value=str(word)):
                    yield word


def asked(package: str) -> set[str]:
    """Returns the actions that a package's code needs.

    A superfluous action fails a test, because no policy has it. Only an action whose name is
    composed at run time is missed.
    """
    methods = operations()
    found: set[str] = set()
    for word in words(ROOT / package):
        for operation in methods.get(
            word, {ASKING_CLASSES[word]} if word in ASKING_CLASSES else ()
        ):
            found |= ACTIONS.get(operation, {operation})
    return found


def statements(policy: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(policy.read_text())["Statement"]
    return found


def actions(statement: dict[str, Any]) -> list[str]:
    action = statement["Action"]
    return [action] if isinstance(action, str) else action


def allowed(*policies: Path) -> set[str]:
    return {
        action
        for policy in policies
        for statement in statements(policy)
        for action in actions(statement)
    }


def test_daemon_is_allowed_its_actions() -> None:
    assert allowed(ROOT / "deploy" / "iam" / DAEMONS) == asked("server/kekd_server")


def test_key_users_are_allowed_their_actions() -> None:
    others = [policy for policy in POLICIES if policy.name != DAEMONS]
    assert allowed(*others) == asked("client/kekd")


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_action_exists_for_the_resource_of_its_statement(policy: Path) -> None:
    for statement in statements(policy):
        assert statement["Effect"] == "Allow"
        resource = ARN(statement["Resource"])
        for action in actions(statement):
            service, _, name = action.partition(":")
            kinds = get_action_data(service, name)[service]
            formats = {kind["resource_arn_format"] for kind in kinds} - {"*"}
            assert any(resource.same_resource_type(format_) for format_ in formats), action


def test_keys_page_has_the_same_actions() -> None:
    page = (ROOT / "docs" / "keys.md").read_text()
    permissions = page.partition("## Permissions")[2].partition("\n## ")[0]
    assert {action for action in asked("client/kekd") if f"`{action}`" not in permissions} == set()
