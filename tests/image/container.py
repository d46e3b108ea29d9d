"""A container as a cluster runs one: what the manifest asks for, by the OCI runtime runc, on the network of this machine.

It gets the read-only root, no capability, no new privileges, the user of the image, limits of memory and processor by cgroups,
and the seccomp profile that Debian ships for containers, which stands for the cluster's RuntimeDefault. (crun refuses a
machine that has cgroups of both versions.)
"""

from __future__ import annotations

import json
import platform
import subprocess
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.local.process import ChildProcess

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROFILE = Path("/usr/share/containers/seccomp.json")
CGROUPS = "platform-tests"
PERIOD_MICROSECONDS = 100_000
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
MASKED = ("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug")
READ_ONLY = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")
DELETE_SECONDS = 20


class Container(ChildProcess):
    """A command in a container with the file system `root`.

    `memory_bytes` and `cpus` are its limits, `volumes` folders of this machine by where the container sees them, read-only;
    with `scratch` its /tmp can be written, in memory.
    """

    def __init__(
        self,
        name: str,
        root: Path,
        command: Sequence[str],
        *,
        config: Mapping[str, Any],
        environment: Mapping[str, str],
        folder: Path,
        memory_bytes: int,
        cpus: float,
        volumes: Mapping[str, Path] | None = None,
        scratch: bool = False,
    ) -> None:
        self._runtime = ("runc", "--root", str(folder / "runc"))
        self._bundle = folder / name
        self._bundle.mkdir(parents=True)
        variables = [*config["Env"], f"HOSTNAME={name}", *(f"{key}={value}" for key, value in environment.items())]
        user, group = map(int, config["User"].split(":"))
        specification = {
            "ociVersion": "1.0.2",
            "hostname": name,
            "root": {"path": str(root), "readonly": True},
            "process": {
                "terminal": False,
                "args": list(command),
                "cwd": config["WorkingDir"],
                "env": variables,
                "user": {"uid": user, "gid": group},
                "noNewPrivileges": True,
                "capabilities": {kind: [] for kind in ("bounding", "effective", "inheritable", "permitted", "ambient")},
            },
            "mounts": [
                _mount("/proc", "proc"),
                _mount("/dev", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
                _mount("/dev/pts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"),
                _mount("/dev/shm", "tmpfs", "nosuid", "noexec", "nodev", "mode=1777", "size=65536k"),  # noqa: S108
                _mount("/sys", "sysfs", "nosuid", "noexec", "nodev", "ro"),
                *([_mount("/tmp", "tmpfs", "nosuid", "nodev", "mode=1777")] if scratch else []),  # noqa: S108
                *(_bound(path, source) for path, source in (volumes or {}).items()),
                *(_bound(path, Path(path)) for path in ("/etc/hosts", "/etc/resolv.conf")),
            ],
            "linux": {
                # Without one for the network: the stores are on this machine's loopback.
                "namespaces": [{"type": kind} for kind in ("pid", "ipc", "uts", "mount", "cgroup")],
                "cgroupsPath": f"/{CGROUPS}/{folder.name}-{name}",
                "resources": {
                    "memory": {"limit": memory_bytes, "swap": memory_bytes},
                    "cpu": {"period": PERIOD_MICROSECONDS, "quota": int(cpus * PERIOD_MICROSECONDS)},
                    "pids": {"limit": 1024},
                },
                "maskedPaths": MASKED,
                "readonlyPaths": READ_ONLY,
                "seccomp": seccomp(),
            },
        }
        (self._bundle / "config.json").write_text(json.dumps(specification))
        super().__init__(
            name,
            (*self._runtime, "run", "--bundle", str(self._bundle), name),
            env={},
            cwd=self._bundle,
            log_path=folder / f"{name}.log",
        )

    @property
    def init(self) -> int:
        """The id, on this machine, of the container's first process."""
        done = subprocess.run([*self._runtime, "state", self.name], capture_output=True, text=True, check=True)
        return int(json.loads(done.stdout)["pid"])

    def stop(self) -> None:
        """End it, as a cluster does when the time of grace is over, and wait until nothing of it is left."""
        if self.pid is not None:
            delete = [*self._runtime, "delete", "--force", self.name]
            subprocess.run(delete, capture_output=True, check=False, timeout=DELETE_SECONDS)
        super().stop()

    def signal(self, name: str) -> None:
        """Send a signal to its first process."""
        subprocess.run([*self._runtime, "kill", self.name, name], capture_output=True, check=True)


@cache
def seccomp() -> dict[str, Any]:
    """Return Debian's profile as the runtime takes it, for a process without any capability."""
    profile = json.loads(PROFILE.read_text())
    here = ARCHITECTURES[platform.machine()]
    rules = []
    for rule in profile["syscalls"]:
        only, not_with = rule.get("includes") or {}, rule.get("excludes") or {}
        if only.get("caps") or here not in (only.get("arches") or [here]) or here in (not_with.get("arches") or []):
            continue
        kept = {key: rule[key] for key in ("names", "action", "errnoRet", "args") if rule.get(key)}
        rules.append(kept)
    known = next(
        entry for entry in profile["archMap"] if entry["architecture"] == f"SCMP_ARCH_{platform.machine().upper()}"
    )
    return {
        "defaultAction": profile["defaultAction"],
        "defaultErrnoRet": profile["defaultErrnoRet"],
        "architectures": [known["architecture"], *(known.get("subArchitectures") or [])],
        "syscalls": rules,
    }


def _mount(path: str, kind: str, *options: str) -> dict[str, Any]:
    return {"destination": path, "type": kind, "source": kind, "options": list(options)}


def _bound(path: str, source: Path) -> dict[str, Any]:
    options = ["rbind", "ro", "nosuid", "nodev"]
    return {"destination": path, "type": "bind", "source": str(source), "options": options}
