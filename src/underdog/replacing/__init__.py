"""Replaceable small models beside a frozen LLM: trained from one file, kept in a registry, compared, and proved harmless."""
