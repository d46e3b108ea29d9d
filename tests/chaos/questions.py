"""What is asked, and what the model server itself says to it: the answer that must arrive, to the letter."""

import json
from dataclasses import dataclass

import aiohttp

from tests.stack.platform import Platform

PARTS = ("sluice", "crane", "beacon", "winch")
MANUALS = {
    f"{part}.md": f"""# Harbour {part}

- The brake of harbour {part} {number} opens at {number}0 bar, and the duty officer of the harbour office writes each \
opening of the {part} down in the green ledger that lies beside control desk {number}.
- Before the brake of harbour {part} {number} is tested, the keeper closes the seaward gate and tells the lock keeper by \
telephone that basin {number} will be without water for {number}5 minutes.
- After the brake of harbour {part} {number} has opened, a fitter replaces its spring washer, greases the spindle, and \
hangs yellow tag {number} with the date on the housing of the {part}.
"""
    for number, part in enumerate(PARTS, 1)
}
QUESTIONS = tuple(f"What happens with the brake of harbour {part} {number}?" for number, part in enumerate(PARTS, 1))


def messages(question: str) -> list[dict[str, str]]:
    """Return a question with its passages, as a client of the OpenAI API may bring them."""
    manual = MANUALS[f"{PARTS[QUESTIONS.index(question)]}.md"]
    system = f"Answer from the passages.\n\n<passages>\n[1] manual\n{manual}\n</passages>"
    return [{"role": "system", "content": system}, {"role": "user", "content": question}]


@dataclass(frozen=True)
class Said:
    """An answer as the model server gives it when it is asked directly."""

    text: str
    tokens: int
    """Of prompt and answer."""


class Upstream:
    """The model server. It gives the same answer to the same prompt, and is asked for each once."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._said: dict[str, Said] = {}

    async def says(self, session: aiohttp.ClientSession, turn: str) -> Said:
        """Return the answer to the prompt that is stored with a turn."""
        [(prompt, model, limit)] = self._platform.query(
            """
            WITH own AS MATERIALIZED (
              SELECT t.*, set_config('app.tenant_id', t.tenant_id::text, false) FROM chat.turns AS t WHERE t.id = %s
            )
            SELECT chat.prompt(own.id), own.model, own.max_tokens FROM own
            """,
            [turn],
        )
        body = json.dumps({"messages": prompt, "model": model, "max_tokens": limit})
        if body not in self._said:
            url = f"{self._platform.stack.urls['model-server']}/v1/chat/completions"
            headers = {"Authorization": "Bearer sk-dev-key", "Content-Type": "application/json"}
            async with session.post(url, data=body.encode(), headers=headers) as response:
                assert response.status == 200, await response.text()
                answer = await response.json()
            self._said[body] = Said(answer["choices"][0]["message"]["content"], answer["usage"]["total_tokens"])
        return self._said[body]
