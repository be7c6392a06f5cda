"""The objects behind `import ghosttrack as gt`. They sit above the stages and the orchestrator; nothing there imports them."""
