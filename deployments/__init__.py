"""Where Swath runs: recipes, archive descriptions and the sandbox archive."""
