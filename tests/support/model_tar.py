# SPDX-License-Identifier: Apache-2.0
"""Models as Docker Model Runner's tar has them, made from bytes: what POST /models/load takes."""
import hashlib
import io
import json
import tarfile

CONFIG = "application/vnd.docker.ai.model.config.v0.1+json"
GGUF = "application/vnd.docker.ai.gguf.v3"
SAFETENSORS = "application/vnd.docker.ai.safetensors"
TEMPLATE = "application/vnd.docker.ai.chat.template.jinja"


def digest_of(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Model:
    """One artifact: id, manifest, config and blobs (digest to bytes)."""

    def __init__(self, layers, format="gguf", context_size=None, created="2025-01-02T03:04:05Z", gguf=None):
        """layers: (media type, bytes) or (media type, bytes, path)"""
        inner = {"format": format, "quantization": "F16", "parameters": "0.59M", "architecture": "llama", "size": "1.13MiB"}
        if gguf is not None:
            inner["gguf"] = gguf
        if context_size:
            inner["context_size"] = context_size
        digests = [digest_of(x[1]) for x in layers]
        config = json.dumps({"config": inner, "descriptor": {"created": created},
                             "rootfs": {"type": "rootfs", "diff_ids": digests}}).encode()
        self.config = inner
        self.blobs = {digest_of(x[1]): x[1] for x in layers}
        self.blobs[digest_of(config)] = config
        entries = []
        for x, d in zip(layers, digests):
            e = {"mediaType": x[0], "size": len(x[1]), "digest": d}
            if len(x) > 2:
                e["annotations"] = {"org.cncf.model.filepath": x[2]}
            entries.append(e)
        self.manifest = json.dumps({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
                                    "config": {"mediaType": CONFIG, "size": len(config), "digest": digest_of(config)},
                                    "layers": entries}).encode()
        self.id = digest_of(self.manifest)

    def tar(self):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w") as t:
            for name in ("blobs", "blobs/sha256"):
                info = tarfile.TarInfo(name)
                info.type = tarfile.DIRTYPE
                t.addfile(info)
            for digest, data in self.blobs.items():
                put(t, "blobs/sha256/" + digest.removeprefix("sha256:"), data)
            put(t, "manifest.json", self.manifest)
        return out.getvalue()


def put(t, name, data):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    t.addfile(info, io.BytesIO(data))


def read(data):
    """name to bytes of a tar's files"""
    with tarfile.open(fileobj=io.BytesIO(data)) as t:
        return {m.name: t.extractfile(m).read() for m in t.getmembers() if m.isfile()}, [m.name for m in t.getmembers()]
