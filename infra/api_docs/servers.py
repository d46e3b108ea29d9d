"""Where the functions are reached (knative/overlays)."""

DOMAIN = "agents.example.com"
NAMESPACE = "enterprise-agents"


def public_host(service: str) -> str:
    """Return the host of a public function, with the server variable `domain`."""
    return f"{service}.{{domain}}"
