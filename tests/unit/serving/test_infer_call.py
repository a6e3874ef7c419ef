"""A call that is sent to another process."""

import pickle

import pytest

from driftloop_contracts.ids import PredictionId
from driftloop_serving.http.http_call import HttpCall
from driftloop_serving.inference.grpc_codec import GRPC
from driftloop_serving.inference.infer_call import Codec, InferCall
from driftloop_serving.inference.v1_codec import V1
from driftloop_serving.inference.v2_codec import V2


@pytest.mark.parametrize("codec", [V2, V1, GRPC])
def test_another_process_gets_the_request_and_its_own_object_of_the_protocol(codec: Codec) -> None:
    """Needed to recognise a client's retry."""
    call = InferCall(codec, "m", b"{}", "3", 2, PredictionId("mine"), b"key", 5.0)
    sent = pickle.loads(pickle.dumps(call))
    assert sent.codec is codec
    assert {**vars(sent), "received_at": 0} == {**vars(call), "received_at": 0}
    assert sent.received_at >= call.received_at


def test_another_process_gets_nothing_of_the_connection() -> None:
    call = HttpCall((V2, "m", "1"), print, keep_alive=True, timeout_s=5.0)
    call.payload, call.given_id = b"{}", PredictionId("mine")
    sent = pickle.loads(pickle.dumps(call))
    assert type(sent) is InferCall
    assert (sent.pinned, sent.payload, sent.given_id, sent.timeout_s) == ("1", b"{}", "mine", 5.0)
