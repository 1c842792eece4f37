"""Makes each kind of gRPC call, and prints as JSON what each gave: the answers, and status, message and trailers.

On standard input is JSON with `target`, and for TLS `ca`, and `cert` and `key` (paths); `metadata` is sent with each call.
"""

import json
import sys

import grpc

SECONDS = 30
options = json.load(sys.stdin)


def read(name):
    path = options.get(name)
    return path and open(path, "rb").read()


if options.get("ca"):
    credentials = grpc.ssl_channel_credentials(read("ca"), read("key"), read("cert"))
    channel = grpc.secure_channel(options["target"], credentials)
else:
    channel = grpc.insecure_channel(options["target"])
metadata = tuple(options.get("metadata", {}).items())


# What a proxy adds to an answer that is nothing but a head (RFC 9110 sections 6.6.1 and 10.2.4).
OF_THE_PROXY = ("date", "server")


def told(call):
    trailers = {key: value for key, value in call.trailing_metadata() or () if key not in OF_THE_PROXY}
    trailers = {key: value if isinstance(value, str) else list(value) for key, value in trailers.items()}
    return {"status": call.code().name, "message": call.details(), "trailers": trailers}


def one(make, request):
    """A call with one answer."""
    try:
        answer, made = make.with_call(request, timeout=SECONDS, metadata=metadata)
        return {"answers": [answer.decode()], **told(made)}
    except grpc.RpcError as error:
        return {"answers": [], **told(error)}


def many(make, request):
    """A call with many answers; what came before a failure is kept."""
    made, given = make(request, timeout=SECONDS, metadata=metadata), []
    try:
        for answer in made:
            given.append(answer.decode())
        return {"answers": given, **told(made)}
    except grpc.RpcError as error:
        return {"answers": given, **told(error)}


def path(method):
    return "/test.Service/" + method


large = one(channel.unary_unary(path("Unary")), b"x" * 1_000_000)
results = {
    "unary": one(channel.unary_unary(path("Unary")), b"x"),
    "large": len("".join(large["answers"])),
    "server-stream": many(channel.unary_stream(path("Count")), b"200"),
    "client-stream": one(channel.stream_unary(path("Collect")), (b"y" * 10_000 for _ in range(100))),
    "both-stream": many(channel.stream_stream(path("Chat")), (b"%d" % number for number in range(50))),
    "fails": many(channel.unary_stream(path("Fail")), b""),
    "unknown": one(channel.unary_unary(path("Unknown")), b""),
}
print(json.dumps(results))
