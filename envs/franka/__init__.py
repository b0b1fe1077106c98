"""Real Franka arms: drivers, their client processes, cameras."""
