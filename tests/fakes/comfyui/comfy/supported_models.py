"""The families that checkpoints are of, each a class; some derive from others and do not fit."""


class SD15:
    pass


class SD20:
    pass


class SDXL:
    pass


class SSD1B(SDXL):
    pass


class SD15_instructpix2pix(SD15):
    pass
