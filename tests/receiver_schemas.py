"""What the receivers' documentation says they take: fields, values and lengths. Nothing else may
be sent."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AnyHttpUrl, BaseModel, ConfigDict, Field


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class SlackMessage(Strict):
    """https://docs.slack.dev/messaging/sending-messages-using-incoming-webhooks; a longer text is
    cut at 40,000 characters."""

    text: Annotated[str, Field(min_length=1, max_length=40_000)]
    unfurl_links: bool = True


class TextBlock(Strict):
    """https://adaptivecards.io/explorer/TextBlock.html"""

    type: Literal["TextBlock"]
    text: str
    wrap: bool = False
    weight: Literal["Lighter", "Default", "Bolder"] = "Default"
    size: Literal["Small", "Default", "Medium", "Large", "ExtraLarge"] = "Default"


class OpenUrl(Strict):
    """https://adaptivecards.io/explorer/Action.OpenUrl.html"""

    type: Literal["Action.OpenUrl"]
    title: Annotated[str, Field(min_length=1)]
    url: AnyHttpUrl


class AdaptiveCard(Strict):
    """https://adaptivecards.io/explorer/AdaptiveCard.html; Teams shows six actions."""

    schema_: Annotated[
        Literal["http://adaptivecards.io/schemas/adaptive-card.json"], Field(alias="$schema")
    ]
    type: Literal["AdaptiveCard"]
    version: Literal["1.0", "1.1", "1.2", "1.3", "1.4", "1.5"]
    body: Annotated[list[TextBlock], Field(min_length=1)]
    actions: Annotated[list[OpenUrl], Field(max_length=6)]


class Attachment(Strict):
    content_type: Annotated[
        Literal["application/vnd.microsoft.card.adaptive"], Field(alias="contentType")
    ]
    content: AdaptiveCard


class TeamsMessage(Strict):
    """https://learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors"""

    type: Literal["message"]
    attachments: Annotated[list[Attachment], Field(min_length=1)]


TEAMS_BYTES = 28 * 1_024


class PagerDutyLink(Strict):
    href: AnyHttpUrl
    text: str


class PagerDutyPayload(Strict):
    summary: Annotated[str, Field(min_length=1, max_length=1_024)]
    source: Annotated[str, Field(min_length=1)]
    severity: Literal["critical", "warning", "error", "info"]
    timestamp: datetime
    component: str
    class_: Annotated[str, Field(alias="class")]
    custom_details: dict[str, str]


class PagerDutyEvent(Strict):
    """https://developer.pagerduty.com/docs/events-api-v2/trigger-events/"""

    routing_key: Annotated[str, Field(min_length=1)]
    event_action: Literal["trigger", "acknowledge", "resolve"]
    dedup_key: Annotated[str, Field(max_length=255)]
    client: str
    payload: PagerDutyPayload | None = None
    links: list[PagerDutyLink] = []


PAGERDUTY_BYTES = 512 * 1_024
