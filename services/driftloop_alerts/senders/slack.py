"""Slack's incoming web hooks."""

from driftloop_alerts.message import Message, text_lines
from driftloop_alerts.senders.http_post import HttpPost

MOST_CHARS = 38_000
"""Slack cuts a text at 40,000."""


class Slack:
    def __init__(self, post: HttpPost) -> None:
        self._post = post

    def send(self, message: Message) -> None:
        lines = [f"*{escaped(message.title)}*", "", *map(escaped, text_lines(message))]
        # Links in texts are shown as they are: a name can say `<!channel>`, and is escaped.
        self._post.send_json(
            {"text": "\n".join(lines).rstrip()[:MOST_CHARS], "unfurl_links": False}
        )

    def close(self) -> None:
        self._post.close()


def escaped(text: str) -> str:
    """As Slack asks for it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
