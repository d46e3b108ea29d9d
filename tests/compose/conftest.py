import pytest
from dotenv import dotenv_values

from tests.compose.reading import FOLDER, PRODUCTION, Document, render


@pytest.fixture(scope="session")
def filled_in() -> dict[str, str]:
    """The .env.example, filled in as it says."""
    given = {k: v or "" for k, v in dotenv_values(FOLDER / ".env.example", interpolate=False).items()}
    return {
        name: value or f"{name.lower().replace('_', '-')}-0123456789abcdef0123456789" for name, value in given.items()
    }


@pytest.fixture(scope="session")
def production(filled_in: dict[str, str]) -> Document:
    """docker-compose.yml with these variables."""
    return render(PRODUCTION, filled_in)
