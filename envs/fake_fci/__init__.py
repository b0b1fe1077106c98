"""A Franka controller that is not there: the robot's network protocol on loopback with MuJoCo behind it."""
