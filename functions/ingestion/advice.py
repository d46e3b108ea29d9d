"""What a person can do about a document that could not be indexed, by the code of its failure."""

from typing import Any

ADVICE = {
    "undecodable_document": "Name its charset in the Content-Type, or save it as UTF-8, and send it again.",
    "unsupported_media_type": "Convert it to PDF, DOCX, PPTX, XLSX, HTML, Markdown or plain text; send it as what it is.",
    "encrypted_document": "Save it without a password, and send it again.",
    "damaged_document": "Open it where it was made, save it anew, and send it again.",
    "no_text": "Nothing is there to be found: put a scan through OCR, write something under headings, and send it again.",
    "document_too_large": "Split the document and send the parts under names of their own.",
    "too_many_pages": "Split the document and send the parts under names of their own.",
    "archive_bomb": "It unpacks to far more than it is: leave out what is large in it, or send it as PDF.",
    "nested_too_deep": "Send what is attached to it by itself.",
    "extraction_timeout": "Split the document; reading it takes too long.",
    "extraction_out_of_memory": "Split the document; reading it takes too much memory.",
    "extraction_crashed": "Open it where it was made, save it anew, and send it again; tell the operator its id.",
    "request_too_large": "Split the document, or ask the operator to raise MAX_DOCUMENT_BYTES.",
    "embedding_unavailable": "Nothing is wrong with the document: retry it when the embedding endpoint answers again.",
    "embedding_rejected": "The embedding endpoint refused a passage: ask the operator for its log, then retry.",
    "embedding_width_mismatch": "The operator must set EMBEDDING_DIMENSIONS to the embedding model's width, then retry.",
    "attempts_exhausted": "Retry it once; when it fails again, the document is too much for the worker: send it in parts.",
    "internal_error": "Retry it; when it fails again, tell the operator the document's id.",
}
ANYTHING = "Correct the document and send it again, or retry it."


def advised(state: dict[str, Any]) -> dict[str, Any]:
    """Return a document's state with what to do about its failure, None where there is none."""
    code = state["error_code"]
    return state | {"advice": None if code is None else ADVICE.get(code, ANYTHING)}
