"""What Gadgetron starts; in a chain: `<execute name="chpnet_gadgets.acquisitions" .../>`."""
