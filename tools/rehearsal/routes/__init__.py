"""What the SDK asks for: a module for each service of Azure ML, over the workspace's part of that name."""
