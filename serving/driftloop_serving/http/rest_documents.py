"""The documents of the REST API, used for its OpenAPI description."""

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
        description="`unknown_rank`: the graph does not specify the number of dimensions and "
        "accepts any shape that it can process. `optional`: has a default and may be omitted",
    )


class ModelMetadata(BaseModel):
    """The metadata of a model version. `properties` repeats the tensors' parameters for gRPC
    clients, whose tensors have none."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
    properties: dict[str, str] | None = None


class LanguageModel(BaseModel):
    """A model as OpenAI's API lists it."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(description="Seconds since 1970")
    owned_by: str = "driftloop"


class Models(BaseModel):
    """`models`: the names of all models. The other fields list language models as OpenAI's API
    does."""

    models: list[str]
    object: Literal["list"] = "list"
    data: list[LanguageModel] = []


class LanguageRequest(BaseModel):
    """A call of OpenAI's API; for its other fields see vLLM's documentation (docs.vllm.ai)."""

    model_config = ConfigDict(extra="allow")

    model: str = Field(description="A model's name, or name@version for one of its versions")


class IndexRequest(BaseModel):
    ready: bool = Field(False, description="List only versions that are ready")


class LoadRequest(BaseModel):
    """Accepted for Triton's clients; its content has no effect."""

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
    """`rejected` (number of lines) and `errors` (the first hundred of them) are present for streams
    only."""

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
