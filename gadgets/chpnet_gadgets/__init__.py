"""What Gadgetron starts: `<execute name="chpnet_gadgets.acquisitions" target="reconstruct" .../>`."""
