"""What `find` and `replace` hand over, behind one small HTTP server that speaks OpenAI's protocol; read `worker.py` first."""

from underdog.errors import ServeMissing


def require_server() -> None:
    """Make sure that Starlette and uvicorn can be imported. Raises ServeMissing."""
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ServeMissing(
            f"serving needs Starlette and uvicorn, and one of them cannot be imported here ({error}). Install them beside "
            "Underdog: pip install 'underdog[serve]', or pip install starlette uvicorn."
        ) from error
