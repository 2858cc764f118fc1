"""Writes what Python loads of `proto/caffe.proto`: the descriptor set `caffe.binpb`, and `caffe_pb2.pyi` for editors.

    python tools/generate_proto.py [--check]

Needs `pip install pycaffe-lite[dev]` (grpcio-tools brings protoc). `--check` writes nothing and ends with status 1 where the
committed set says something else than the schema.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from importlib import resources
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "proto" / "caffe.proto"
PACKAGE = ROOT / "pycaffe_lite" / "proto"


def compile_schema(schema: Path) -> tuple[bytes, str]:
    """The serialized FileDescriptorSet of a schema (without its comments) and its Python type stub."""
    with tempfile.TemporaryDirectory() as folder:
        binpb = Path(folder) / "caffe.binpb"
        arguments = [f"--proto_path={schema.parent}", f"--descriptor_set_out={binpb}", f"--pyi_out={folder}"]
        includes = resources.files("grpc_tools") / "_proto"
        if protoc.main(["protoc", *arguments, f"--proto_path={includes}", str(schema)]) != 0:
            sys.exit(f"{schema} does not compile")
        return binpb.read_bytes(), (Path(folder) / f"{schema.stem}_pb2.pyi").read_text("utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare the schema with the committed set")
    check = parser.parse_args().check
    binpb, stub = compile_schema(SCHEMA)
    committed = PACKAGE / "caffe.binpb"
    if not check:
        committed.write_bytes(binpb)
        (PACKAGE / "caffe_pb2.pyi").write_text(stub, "utf-8")
    elif FileDescriptorSet.FromString(binpb) != FileDescriptorSet.FromString(committed.read_bytes()):
        print(f"{committed} is older than {SCHEMA}: run `make proto`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
