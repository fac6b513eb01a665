"""A cluster of one machine on loopback: as much of the Kubernetes API as Snakemake asks, pods as processes of this machine.

A pod starts in an empty folder, with nothing in its environment but what its image has (Python, the package) and what its
secrets give. It sees no file of the run that submitted it, except through what it fetches.
"""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import yaml
from support.loopback import Handler, Server
from support.loopback_s3 import PREFIX

IN_PODS = (
    *("--profile", "kubernetes", "--container-image", "jointseg", "--jobs", "2"),
    *("--default-storage-prefix", PREFIX),
)
PLACE = re.compile(r"/(?:api|apis/batch)/v1/namespaces/[^/]+/(secrets|jobs|pods)(?:/([^/]+))?(/status|/log)?")


@dataclass
class Pod:
    """A job's process, its folder and what it asked for."""

    process: subprocess.Popen
    folder: Path
    job: dict

    @property
    def said(self) -> str:
        return (self.folder.with_suffix(".log")).read_text(errors="replace")


class Api(Handler):
    server: "Cluster"

    def _answer(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        found = PLACE.fullmatch(url.path)
        if found is None:
            self._json({"kind": "Status", "code": 404, "message": url.path}, 404)
            return
        kind, name, part = found.groups()
        self.server.record(f"{self.command} {kind}")
        if self.command == "POST":
            made = json.loads(body)
            getattr(self.server, f"create_{kind}")(made)
            self._json(made, 201)
        elif self.command == "DELETE":
            self.server.delete(kind, name)
            self._json({"kind": "Status", "status": "Success"})
        elif part == "/log":
            self.reply(200, self.server.pods[name].said.encode(), "text/plain")
        elif kind == "pods":
            job = parse_qs(url.query)["labelSelector"][0].removeprefix("job-name=")
            self._json({"kind": "PodList", "items": self.server.listed(job)})
        else:
            self._json(self.server.status(name))

    def _json(self, told: dict, status: int = 200) -> None:
        self.reply(status, json.dumps(told).encode())


for method in ("GET", "POST", "DELETE"):
    setattr(Api, f"do_{method}", Api._answer)


class Cluster(Server):
    """The API and its pods.

    Attributes:
        root: a folder for the pods' own.
        image: what the image of every pod has: a folder with the package.
        pods: by the name of their job.
        ran: what jobs asked for, in their order.
    """

    def __init__(self, root: Path, image: Path) -> None:
        super().__init__(root, Api)
        self.image = image
        self.secrets: dict[str, dict[str, str]] = {}
        self.pods: dict[str, Pod] = {}
        self.ran: list[dict] = []

    @property
    def environment(self) -> dict[str, str]:
        """What tells a run where the cluster is."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "loopback", "cluster": {"server": self.url}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "loopback", "context": {"cluster": "loopback", "user": "nobody"}}],
            "current-context": "loopback",
        }
        path = self.root / "kubeconfig.yaml"
        path.write_text(yaml.safe_dump(config))
        return {"KUBECONFIG": str(path)}

    def create_secrets(self, made: dict) -> None:
        data = made.get("data") or {}
        self.secrets[made["metadata"]["name"]] = {key: base64.b64decode(value).decode() for key, value in data.items()}

    def create_jobs(self, made: dict) -> None:
        name = made["metadata"]["name"]
        (container,) = made["spec"]["template"]["spec"]["containers"]
        folder = self.root / name
        folder.mkdir()
        environment = {
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.defpath]),
            "PYTHONPATH": str(self.image / "src"),
            "HOME": str(folder),
        }
        for variable in container.get("env") or []:
            secret = variable["valueFrom"]["secretKeyRef"]
            environment[variable["name"]] = self.secrets[secret["name"]][secret["key"]]
        with open(folder.with_suffix(".log"), "wb") as said:
            process = subprocess.Popen(
                [*container["command"], *container["args"]],
                cwd=folder,
                env=environment,
                stdout=said,
                stderr=said,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.pods[name] = Pod(process, folder, made)
        self.ran.append(made)

    def status(self, name: str) -> dict:
        ended = self.pods[name].process.poll()
        counts = {"active": 1} if ended is None else {"failed": 1} if ended else {"succeeded": 1}
        return self.pods[name].job | {"status": counts}

    def listed(self, name: str) -> list[dict]:
        if name not in self.pods:
            return []
        ended = self.pods[name].process.poll()
        state = {"running": {}} if ended is None else {"terminated": {"exitCode": ended}}
        container = {"name": "snakemake", "state": state, "image": "", "imageID": "", "ready": True, "restartCount": 0}
        return [{"metadata": {"name": name}, "status": {"containerStatuses": [container]}}]

    def delete(self, kind: str, name: str) -> None:
        if kind == "secrets":
            del self.secrets[name]
        elif kind == "jobs" and name in self.pods:
            pod = self.pods.pop(name)
            if pod.process.poll() is None:
                os.killpg(pod.process.pid, 9)
                pod.process.wait()
            shutil.rmtree(pod.folder, ignore_errors=True)


@contextmanager
def kubernetes_server(root: Path, image: Path) -> Iterator[Cluster]:
    """A cluster that lasts as long as the block; `image` holds the package in src/."""
    with Cluster(root, image).serving() as cluster:
        try:
            yield cluster
        finally:
            for name in list(cluster.pods):
                cluster.delete("jobs", name)
