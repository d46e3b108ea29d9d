"""Every kustomization renders to objects that a cluster takes, and that agree with each other."""

import sys
from pathlib import Path

import pytest

from tests.manifests.conftest import EVERY_SECRET
from tests.manifests.references import broken
from tests.manifests.rendering import FOLDERS, Object, kubectl, rendered, title
from tests.manifests.schemas import Schemas, invalid
from tests.manifests.webhooks import refused


def everything(documents: list[Object]) -> set[str]:
    return {title(document) for document in documents}


def test_every_object_is_valid_by_its_schema(documents: list[Object], found_crds: Schemas | None) -> None:
    """Knative's kinds where its CRDs are at hand; Kubernetes' everywhere."""
    assert [reason for document in documents for reason in invalid(document, found_crds)] == []


def test_no_object_is_refused_by_a_webhook(documents: list[Object]) -> None:
    assert [reason for document in documents for reason in refused(document)] == []


def test_what_the_objects_name_exists(documents: list[Object]) -> None:
    assert broken(documents, EVERY_SECRET) == []


@pytest.mark.parametrize("name", FOLDERS)
def test_an_overlay_leaves_nothing_of_the_base_out(name: str) -> None:
    assert everything(rendered(name)) >= {title_ for title_ in everything(rendered("base")) if title_[:4] != "Job/"}


def test_without_kubectl_a_test_is_skipped_and_in_continuous_integration_it_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert kubectl()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.delenv("REQUIRE_KUBECTL", raising=False)
    with pytest.raises(pytest.skip.Exception):
        kubectl()
    monkeypatch.setenv("REQUIRE_KUBECTL", "1")
    with pytest.raises(pytest.fail.Exception):
        kubectl()
