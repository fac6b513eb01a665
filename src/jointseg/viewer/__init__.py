"""Web viewer on the loopback interface: shows the rasters of a results folder and explains pixels."""
