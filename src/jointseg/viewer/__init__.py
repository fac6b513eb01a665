"""A web page on loopback that shows the rasters of a results folder and explains their pixels."""
