"""The yardstick: grpc.aio with an empty SubmitTask handler, on uvloop, and nothing else."""

import asyncio
import sys

import grpc
import uvloop

from callsheet.v1.task_service_pb2 import SubmitTaskRequest, SubmitTaskResponse


async def answer(
    request: SubmitTaskRequest,
    context: grpc.aio.ServicerContext[SubmitTaskRequest, SubmitTaskResponse],
) -> SubmitTaskResponse:
    """Answer an empty response at once."""
    del request, context
    return SubmitTaskResponse()


async def serve(address: str) -> None:
    """Serve until killed."""
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=SubmitTaskRequest.FromString,
        response_serializer=SubmitTaskResponse.SerializeToString,
    )
    service = grpc.method_handlers_generic_handler(
        "callsheet.v1.TaskService", {"SubmitTask": handler}
    )
    server.add_generic_rpc_handlers([service])
    server.add_insecure_port(address)
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(sys.argv[1]))
