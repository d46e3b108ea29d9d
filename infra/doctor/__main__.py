"""What is wrong with a deployment, and what to do about it: `make doctor`, or in a pod of it `python -m infra.doctor`.

It looks at the variables, and with them at everything that they name. JSON=1 prints one document. The status is 1 when there is
a failure; a warning is none.
"""

import asyncio
import json
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict

from pydantic import ValidationError

from infra.doctor import database, services, variables
from infra.doctor.findings import Check, Checked, Finding, LeftOut
from infra.target import variables as deployment
from shared.guards import malformed
from shared.runtime import runtime
from shared.settings import Settings, get_settings

CHECKS: dict[str, Check] = {
    "variables": variables.check,
    "PostgreSQL": database.check,
    "Redis": services.check_redis,
    "models": services.check_models,
    "identity provider": services.check_identity_provider,
    "telemetry": services.check_telemetry,
    "object store": services.check_object_store,
}


async def examine(environ: Mapping[str, str]) -> list[Checked]:
    """Return what each check says of the deployment whose variables are in the process's environment."""
    try:
        settings = get_settings()
    except ValidationError as error:
        return [Checked("variables", tuple(variables.from_lines(malformed(error))))]
    try:
        return list(await asyncio.gather(*(_made(name, check, settings, environ) for name, check in CHECKS.items())))
    finally:
        await runtime.close()


async def _made(name: str, check: Check, settings: Settings, environ: Mapping[str, str]) -> Checked:
    try:
        return Checked(name, tuple(await check(settings, environ)))
    except LeftOut as reason:
        return Checked(name, left_out=str(reason))


def is_well(checked: list[Checked]) -> bool:
    """Whether nothing has failed."""
    return not any(finding.severity == "failure" for check in checked for finding in check.findings)


def as_text(checked: list[Checked]) -> str:
    """Return what a person reads: a line for each check that is well, and the findings of the others."""
    lines = []
    for check in checked:
        if check.left_out:
            lines.append(f"-     {check.name}: {check.left_out}")
        elif not check.findings:
            lines.append(f"ok    {check.name}")
        for finding in check.findings:
            lines += _lines(finding)
    counts = [sum(f.severity == kind for c in checked for f in c.findings) for kind in ("failure", "warning")]
    return "\n".join([*lines, f"{counts[0]} failures, {counts[1]} warnings"])


def _lines(finding: Finding) -> list[str]:
    mark = "FAIL" if finding.severity == "failure" else "warn"
    return [f"{mark}  {finding.subject}: {finding.told}", f"      {finding.remedy}."]


def main() -> None:
    """Look, and print."""
    os.environ.update(deployment(os.environ))
    # What a check finds is told once, by the finding.
    logging.disable()
    checked = asyncio.run(examine(os.environ))
    if os.environ.get("JSON") == "1":
        document = {"healthy": is_well(checked), "checks": [asdict(check) for check in checked]}
        sys.stdout.write(json.dumps(document, indent=2) + "\n")
    else:
        sys.stdout.write(as_text(checked) + "\n")
    sys.exit(0 if is_well(checked) else 1)


if __name__ == "__main__":
    main()
