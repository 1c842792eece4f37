#!/usr/bin/env python3
"""Writes an OCI image layout (directory) without a daemon: equal files give an equal digest, wherever and whenever.

    envoy/oci-image.py filter target/filter.wasm --out target/oci/filter
    envoy/oci-image.py host target/dist/peergate --license LICENSE --out target/oci/host

`filter` is what Istio's WasmPlugin fetches: the "compat" variant of the Wasm Image Specification, one layer with plugin.wasm
(https://github.com/solo-io/wasm/blob/master/spec/spec-compat.md). `host` is a static binary and nothing else, as
host/Containerfile says. Prints the digest of the manifest, which is what `image@sha256:...` means.

Times in the image are SOURCE_DATE_EPOCH (seconds since 1970), 0 where that is not set.
"""

import argparse
import datetime
import hashlib
import io
import json
import os
import shutil
import struct
import sys
import tarfile
import zlib
from pathlib import Path

LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"

# No user of the node has this one: that of distroless' "nonroot".
USER = "65532:65532"


class ImageError(Exception):
    """A file that makes no image, or a place that is not ours to overwrite."""


class Image:
    """Blobs of one image, and its manifest."""

    def __init__(self, epoch: int):
        self.epoch = epoch
        self.blobs: dict[str, bytes] = {}
        self.manifest: dict = {}

    def add(self, kind: str, blob: bytes) -> dict:
        """Keeps a blob; returns its descriptor."""
        digest = hashlib.sha256(blob).hexdigest()
        self.blobs[digest] = blob
        return {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(blob)}

    def assemble(self, layer: bytes, compressed: bytes, platform: dict, run: dict, annotations: dict) -> None:
        created = datetime.datetime.fromtimestamp(self.epoch, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        config = {
            "created": created,
            **platform,
            "config": run,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
            "history": [{"created": created, "created_by": "peergate"}],
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": self.add(CONFIG, as_json(config)),
            "layers": [self.add(LAYER, compressed)],
            "annotations": annotations,
        }
        self.manifest = self.add(MANIFEST, as_json(manifest))

    def write(self, out: Path, tag: str) -> None:
        """Replaces the layout at `out` (OCI Image Layout Specification)."""
        if out.exists() and not (out / "oci-layout").is_file():
            raise ImageError(f"`{out}` exists and is no OCI image layout; remove it, or name another directory")
        shutil.rmtree(out, ignore_errors=True)
        (out / "blobs/sha256").mkdir(parents=True)
        for digest, blob in self.blobs.items():
            (out / "blobs/sha256" / digest).write_bytes(blob)
        entry = {**self.manifest, "annotations": {"org.opencontainers.image.ref.name": tag}}
        (out / "index.json").write_bytes(as_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": [entry]}))
        (out / "oci-layout").write_bytes(as_json({"imageLayoutVersion": "1.0.0"}))


def filter_image(args: argparse.Namespace, image: Image) -> None:
    wasm = args.file.read_bytes()
    if wasm[:8] != b"\0asm\1\0\0\0":
        raise ImageError(f"`{args.file}` is no WebAssembly module; build it: make wasm")
    layer = archive([("plugin.wasm", wasm, 0o644)], image.epoch)
    # It runs in any proxy, but registries and their tools want a platform.
    platform = {"architecture": "amd64", "os": "linux"}
    annotations = {"module.wasm.image/variant": "compat", "org.opencontainers.image.licenses": "Apache-2.0"}
    image.assemble(layer, gzip(layer, stored(layer)), platform, {}, annotations)


def host_image(args: argparse.Namespace, image: Image) -> None:
    binary = args.file.read_bytes()
    platform = {"architecture": architecture(args.file, binary), "os": "linux"}
    files = [("LICENSE", args.license.read_bytes(), 0o644), ("peergate", binary, 0o755)]
    layer = archive(files, image.epoch)
    run = {"Entrypoint": ["/peergate"], "User": USER, "WorkingDir": "/"}
    annotations = {"org.opencontainers.image.licenses": "Apache-2.0"}
    image.assemble(layer, gzip(layer, deflated(layer)), platform, run, annotations)


def architecture(path: Path, binary: bytes) -> str:
    """Of a static ELF executable of 64 bits. In an image without files a dynamic one would not find its loader."""
    if binary[:6] != b"\x7fELF\x02\x01":
        raise ImageError(f"`{path}` is no program for a 64-bit Linux; build it: make dist")
    machine, = struct.unpack_from("<H", binary, 18)
    start, = struct.unpack_from("<Q", binary, 32)
    size, count = struct.unpack_from("<HH", binary, 54)
    kinds = [struct.unpack_from("<I", binary, start + n * size)[0] for n in range(count)]
    PT_INTERP = 3
    if PT_INTERP in kinds:
        raise ImageError(f"`{path}` is dynamically linked and would not start in an empty image; build it: make dist")
    names = {62: "amd64", 183: "arm64"}
    if machine not in names:
        raise ImageError(f"`{path}` is for ELF machine {machine}; known are {names}")
    return names[machine]


def archive(files: list[tuple[str, bytes, int]], epoch: int) -> bytes:
    """A tar archive that says nothing of this machine."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, content, mode in files:
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.mtime = len(content), mode, epoch
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def gzip(content: bytes, deflate: bytes) -> bytes:
    """A gzip member (RFC 1952) without name, time and system."""
    header = struct.pack("<4BI2B", 0x1F, 0x8B, 8, 0, 0, 0, 255)
    return header + deflate + struct.pack("<2I", zlib.crc32(content), len(content) & 0xFFFFFFFF)


def stored(content: bytes) -> bytes:
    """As stored blocks (RFC 1951, 3.2.4): what zlib makes of the same bytes depends on its version, and with it the digest."""
    pieces = [content[at : at + 0xFFFF] for at in range(0, len(content), 0xFFFF)]
    blocks = []
    for number, piece in enumerate(pieces, 1):
        blocks += [struct.pack("<B2H", number == len(pieces), len(piece), len(piece) ^ 0xFFFF), piece]
    return b"".join(blocks)


def deflated(content: bytes) -> bytes:
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    return compressor.compress(content) + compressor.flush()


def as_json(value: dict) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()


def epoch() -> int:
    text = os.environ.get("SOURCE_DATE_EPOCH", "0")
    # The field of a tar archive has 33 bits.
    if not (text.isascii() and text.isdigit() and int(text) < 1 << 33):
        raise ImageError(f"`SOURCE_DATE_EPOCH` is `{text}`; expected whole seconds since 1970")
    return int(text)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(required=True, metavar="filter|host")
    for name, make in (("filter", filter_image), ("host", host_image)):
        kind = kinds.add_parser(name)
        kind.set_defaults(make=make)
        kind.add_argument("file", type=Path, help="what the image is of")
        kind.add_argument("--out", type=Path, required=True, help="the layout's directory; replaced")
        kind.add_argument("--tag", default="latest", help="the image's name in the layout")
        if name == "host":
            kind.add_argument("--license", type=Path, required=True)
    args = parser.parse_args()
    try:
        image = Image(epoch())
        args.make(args, image)
        image.write(args.out, args.tag)
    except (ImageError, OSError) as error:
        print(f"oci-image: {error}", file=sys.stderr)
        return 2
    print(image.manifest["digest"])
    return 0


if __name__ == "__main__":
    sys.exit(main())
