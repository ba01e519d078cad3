"""Models that know: asked here, or recorded earlier."""
