"""The documents of the REST API, for its OpenAPI description."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from driftloop_contracts.signature import Datatype


class Error(BaseModel):
    error: str


class OpenAIProblem(BaseModel):
    message: str
    type: str
    param: str | None = None
    code: int | str | None = None


class OpenAIError(BaseModel):
    error: OpenAIProblem


class Live(BaseModel):
    live: bool


class Ready(BaseModel):
    ready: bool


class Server(BaseModel):
    name: str
    version: str
    extensions: list[str]


class ModelReady(BaseModel):
    name: str
    ready: bool


class TensorMetadata(BaseModel):
    name: str
    datatype: Datatype
    shape: list[int] = Field(description="-1 for a free dimension")
    parameters: dict[str, bool] | None = Field(
        None,
        description="`unknown_rank`: the graph does not say how many dimensions there are, and "
        "takes any shape that it can work with. `optional`: it has a default and may be left out",
    )


class ModelMetadata(BaseModel):
    """`properties`: the same for clients of the gRPC API, whose tensors have no parameters."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str] | None = None


class LanguageModel(BaseModel):
    """As OpenAI's API lists a model."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Seconds since 1970")
    owned_by: str = "driftloop"


class Models(BaseModel):
    """`models`: of every kind, by name; the rest as OpenAI's API lists language models."""

    models: list[str]
    object: Literal["list"] = "list"
    data: list[LanguageModel] = []


class LanguageRequest(BaseModel):
    """A call of OpenAI's API; what else it may hold is vLLM's (docs.vllm.ai)."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(description="A model's name, or name@version for one of its versions")


class IndexRequest(BaseModel):
    ready: bool = Field(False, description="Only what is ready")


class LoadRequest(BaseModel):
    """Triton's clients send one; nothing in it changes what is loaded."""

    parameters: dict[str, Any] = {}


class IndexEntry(BaseModel):
    name: str
    version: str
    state: Literal["READY", "UNAVAILABLE"]
    reason: str


class Duration(BaseModel):
    count: int
    ns: int


class InferenceStatistics(BaseModel):
    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class ModelStatistics(BaseModel):
    name: str
    version: str
    last_inference: int = Field(description="Milliseconds since 1970; 0: never")
    inference_count: int = Field(description="Rows")
    execution_count: int
    inference_stats: InferenceStatistics
    batch_stats: list[Any]


class Statistics(BaseModel):
    model_stats: list[ModelStatistics]


class BadLine(BaseModel):
    line: int
    error: str


class Accepted(BaseModel):
    """`rejected` lines and the first hundred of them: of a stream only."""

    accepted: int
    rejected: int | None = None
    errors: list[BadLine] | None = None


class Tensor(BaseModel):
    name: str
    shape: list[int]
    datatype: Datatype
    parameters: dict[str, Any] = {}
    data: list[Any] = Field([], description="Nested or flat, row-major")


class WantedOutput(BaseModel):
    name: str
    parameters: dict[str, Any] = {}


class InferRequest(BaseModel):
    id: str | None = None
    parameters: dict[str, Any] = {}
    inputs: list[Tensor]
    outputs: list[WantedOutput] | None = Field(None, description="None: all")


class InferResponse(BaseModel):
    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]


class PredictRequest(BaseModel):
    instances: list[Any] | None = None
    inputs: dict[str, Any] | list[Any] | None = None


class PredictResponse(BaseModel):
    predictions: list[Any] | dict[str, Any]


class Label(BaseModel):
    prediction_id: str = Field(min_length=1, max_length=128)
    row: int | None = Field(None, ge=0)
    label: Any = None
    metric: str | None = None
    value: Any = None
    observed_at: str | None = None
    source: str = "api"
    tags: dict[str, str] = {}
