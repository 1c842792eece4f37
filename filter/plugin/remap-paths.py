"""Prints compiler flags, as CARGO_ENCODED_RUSTFLAGS wants them, that keep this machine's paths out of filter.wasm.

A panic names its place in the source. With these flags the place of a dependency is /cargo/NAME-VERSION/src/..., and the
same commit is the same filter, byte for byte, in every directory and under every user. Our own crates need none: cargo
names their files from the workspace.
"""

import json
import os
import subprocess
import sys


def output(*command: str) -> str:
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def remapped(target: str) -> list[tuple[str, str]]:
    metadata = json.loads(output("cargo", "metadata", "--locked", "--format-version=1", f"--filter-platform={target}"))
    manifests = [package["manifest_path"] for package in metadata["packages"] if package["source"]]
    registries = sorted({os.path.dirname(os.path.dirname(manifest)) for manifest in manifests})
    # The standard library comes compiled, with the second of these paths; where its source is installed too, the compiler
    # prefers the first.
    version = dict(line.split(": ", 1) for line in output("rustc", "-vV").splitlines() if ": " in line)
    library = os.path.join(output("rustc", "--print=sysroot").strip(), "lib/rustlib/src/rust")
    return [
        # Of several that fit, the last counts.
        (metadata["workspace_root"], "/peergate"),
        (metadata["target_directory"], "/peergate/target"),
        *((registry, "/cargo") for registry in registries),
        (library, f"/rustc/{version['commit-hash']}"),
    ]


try:
    print("\x1f".join(f"--remap-path-prefix={path}={name}" for path, name in remapped(sys.argv[1])))
except subprocess.CalledProcessError as error:
    # It has said why.
    sys.exit(error.returncode)
