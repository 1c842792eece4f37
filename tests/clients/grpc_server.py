"""A gRPC service without TLS, by generic handlers on bytes; prints its port, and then each method that is called."""

import sys
from concurrent import futures

import grpc


def unary(request, context):
    context.set_trailing_metadata((("x-served", "unary"), ("x-raw-bin", b"\x00\xff")))
    return b"unary:" + request


def count(request, context):
    for number in range(int(request)):
        yield b"%d" % number
    context.set_trailing_metadata((("x-served", "count"),))


def collect(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def chat(requests, context):
    for request in requests:
        yield b"chat:" + request


def fail(request, context):
    yield b"first"
    context.set_trailing_metadata((("x-why", "told"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "half way: 100% blåbær")


class Handler(grpc.GenericRpcHandler):
    """The methods by their paths; bytes are neither parsed nor serialised."""

    METHODS = {
        "/test.Service/Unary": grpc.unary_unary_rpc_method_handler(unary),
        "/test.Service/Count": grpc.unary_stream_rpc_method_handler(count),
        "/test.Service/Collect": grpc.stream_unary_rpc_method_handler(collect),
        "/test.Service/Chat": grpc.stream_stream_rpc_method_handler(chat),
        "/test.Service/Fail": grpc.unary_stream_rpc_method_handler(fail),
    }

    def service(self, details):
        print(details.method, flush=True)
        return self.METHODS.get(details.method)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=8))
server.add_generic_rpc_handlers((Handler(),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
# Ends with the test, which closes this pipe.
sys.stdin.read()
server.stop(None).wait()
