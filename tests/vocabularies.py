"""Vocabularies of different kinds, and texts to hold estimates of tokens against them."""

import base64
import importlib.util
import json
import subprocess
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from uuid import UUID

import tiktoken

ROOT = Path(__file__).parents[1]
FILES = (
    "docs", "README.md", "sql", "functions", "shared", "infra", "migrations", "knative", "tests/sql", "tests/functions",
)  # fmt: skip
SUFFIXES = {".md", ".sql", ".py", ".json", ".yaml", ".toml"}
BYTES = b"".join(sha256(bytes([number])).digest() for number in range(64))
TEXTS = {
    "English": "The daily token budget of a tenant is one million tokens; what is left at midnight is lost.",
    "German": "Überprüfung der Größe: 3,50 EUR am 12.10.2026 für Müller & Söhne, Geschwindigkeitsbegrenzung",
    "French": "L'été dernier, où êtes-vous allés ? « Ça dépend », répondit-elle, gênée.",
    "Spanish": "¿Cuántos tokens le quedan al inquilino? ¡Ninguno, señor Núñez!",
    "Polish": "Zażółć gęślą jaźń, źdźbło trawy i chrząszcz brzmi w trzcinie",
    "Turkish": "Pijamalı hasta yağız şoföre çabucak güvendi; İstanbul'da ığdır",  # noqa: RUF001
    "Vietnamese": "Ngân sách hàng ngày của người thuê nhà là một triệu từ",
    "Finnish": "epäjärjestelmällistyttämättömyydelläänsäkäänköhän on suomea",
    "Russian": "Дневной бюджет токенов арендатора исчерпан, попробуйте завтра.",
    "Greek": "Ημερήσιος προϋπολογισμός του ενοικιαστή",
    "Arabic": "ميزانية الرموز اليومية للمستأجر هي مليون رمز",
    "Hebrew": "תקציב האסימונים היומי של הדייר",
    "Hindi": "किरायेदार का दैनिक टोकन बजट दस लाख है",
    "Thai": "งบประมาณโทเค็นรายวันของผู้เช่าคือหนึ่งล้าน",
    "Japanese": "人工知能プラットフォームの予算は毎日更新されます。",
    "Chinese": "租户的每日令牌预算为一百万，午夜重置。",  # noqa: RUF001
    "Korean": "임차인의 일일 토큰 예산은 백만입니다",
    "Amharic": "የተከራይ ዕለታዊ በጀት",
    "numbers": "1234567890 3.14159265 -1e-9 0xFF 1,000,000.00 2026-03-29T00:00:00+01:00 192.168.0.1",
    "JSON": json.dumps({letter: [index, None, True, {"x": "y"}] for index, letter in enumerate("abcdefghij")}),
    "compact JSON": json.dumps({letter: index for index, letter in enumerate("abcdefghij")}, separators=(",", ":")),
    "base64": base64.b64encode(BYTES).decode(),
    "hexadecimal": BYTES.hex(),
    "UUIDs": " ".join(str(UUID(bytes=BYTES[at : at + 16])) for at in range(0, 512, 16)),
    "emoji": "🚀 👩‍👩‍👧‍👦 🇩🇪 👍🏽 émoji ✓ ½ µ ☃️ →",
    "spaces": "a" + " " * 500 + "b" + "\n" * 300 + "c" + "\t" * 200,
    "single letters": "a b c d e f g h i j k",
    "letters between signs": "a.b.c.d,e,f,g;h;i/j/k-l_m:n",
    "CSV": "a,b,c,d\n1,2,3,4\nx,y,,z\n",
    "algebra": "x=a*b+c/(d-e)^f; y=|u|-|v|",
    "code": "def f(x: int) -> int:\n    return x ** 2 + 17  # 1234567890",
    "identifiers": "getElementById XMLHttpRequest snake_case_name kebab-case-name __dunder__ i18n k8s",
    "Markdown": "| a | b |\n|---|---|\n| 1 | **2** |\n\n- [ ] `x`\n> ~~y~~",
    "URL": "https://example.com/a/b?c=d&e=f#g%20h",
    "controls": "a\x01b\x02c\x7fd\u200be\u00a0f\u3000g",
    "nothing": "",
}


def files() -> dict[str, str]:
    """Return the texts of this repository that have been committed."""
    listed = subprocess.run(
        ["git", "ls-files", "--", *FILES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    paths = [ROOT / name for name in listed]
    return {
        str(path.relative_to(ROOT)): path.read_text() for path in paths if path.suffix in SUFFIXES and path.exists()
    }


QWEN_SPLITS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Where Qwen's tokenizer cuts before it pairs bytes."""

Count = Callable[[str], int]


def qwen() -> Count:
    """Return what counts by Qwen's vocabulary, which the package dashscope carries."""
    package = importlib.util.find_spec("dashscope")
    assert package is not None
    assert package.submodule_search_locations
    lines = (Path(package.submodule_search_locations[0]) / "resources" / "qwen.tiktoken").read_bytes().split(b"\n")
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    encoding = tiktoken.Encoding("qwen", pat_str=QWEN_SPLITS, mergeable_ranks=ranks, special_tokens={})
    return lambda text: len(encoding.encode_ordinary(text))
