"""A Kubernetes test server: the part of the API that Snakemake uses; pods are processes of this machine.

A pod starts in an empty folder. Its environment contains only its image (Python, the package) and its secrets. It has no
access to files of the run that submitted it, except those it downloads.
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
ROUTE = re.compile(r"/(?:api|apis/batch)/v1/namespaces/[^/]+/(secrets|jobs|pods)(?:/([^/]+))?(/status|/log)?")


@dataclass
class Pod:
    """The process of a job, its folder and its specification."""

    process: subprocess.Popen
    folder: Path
    job: dict

    @property
    def log(self) -> str:
        return (self.folder.with_suffix(".log")).read_text(errors="replace")


class Api(Handler):
    server: "Cluster"

    def _respond(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match = ROUTE.fullmatch(url.path)
        if match is None:
            self._json({"kind": "Status", "code": 404, "message": url.path}, 404)
            return
        kind, name, part = match.groups()
        self.server.record(f"{self.command} {kind}")
        if self.command == "POST":
            resource = json.loads(body)
            getattr(self.server, f"create_{kind}")(resource)
            self._json(resource, 201)
        elif self.command == "DELETE":
            self.server.delete(kind, name)
            self._json({"kind": "Status", "status": "Success"})
        elif part == "/log":
            self.reply(200, self.server.pods[name].log.encode(), "text/plain")
        elif kind == "pods":
            job = parse_qs(url.query)["labelSelector"][0].removeprefix("job-name=")
            self._json({"kind": "PodList", "items": self.server.list_pods(job)})
        else:
            self._json(self.server.status(name))

    def _json(self, content: dict, status: int = 200) -> None:
        self.reply(status, json.dumps(content).encode())


for method in ("GET", "POST", "DELETE"):
    setattr(Api, f"do_{method}", Api._respond)


class Cluster(Server):
    """Serves the API and runs the pods.

    Attributes:
        root: parent folder of the pods.
        image: folder with the package, the image of every pod.
        pods: by the name of their job.
        submitted: specifications of the jobs, in order.
    """

    def __init__(self, root: Path, image: Path) -> None:
        super().__init__(root, Api)
        self.image = image
        self.secrets: dict[str, dict[str, str]] = {}
        self.pods: dict[str, Pod] = {}
        self.submitted: list[dict] = []

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables of a run that uses the cluster."""
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

    def create_secrets(self, resource: dict) -> None:
        data = resource.get("data") or {}
        self.secrets[resource["metadata"]["name"]] = {
            key: base64.b64decode(value).decode() for key, value in data.items()
        }

    def create_jobs(self, resource: dict) -> None:
        name = resource["metadata"]["name"]
        (container,) = resource["spec"]["template"]["spec"]["containers"]
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
        with open(folder.with_suffix(".log"), "wb") as log:
            process = subprocess.Popen(
                [*container["command"], *container["args"]],
                cwd=folder,
                env=environment,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self.pods[name] = Pod(process, folder, resource)
        self.submitted.append(resource)

    def status(self, name: str) -> dict:
        exit_code = self.pods[name].process.poll()
        counts = {"active": 1} if exit_code is None else {"failed": 1} if exit_code else {"succeeded": 1}
        return self.pods[name].job | {"status": counts}

    def list_pods(self, name: str) -> list[dict]:
        if name not in self.pods:
            return []
        exit_code = self.pods[name].process.poll()
        state = {"running": {}} if exit_code is None else {"terminated": {"exitCode": exit_code}}
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
    """Run a cluster within the block; `image` contains the package in src/."""
    with Cluster(root, image).serving() as cluster:
        try:
            yield cluster
        finally:
            for name in list(cluster.pods):
                cluster.delete("jobs", name)
