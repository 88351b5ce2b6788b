"""Make a folder shaped like a Fiji, for machines that cannot fetch one.

    python shape_fiji.py DIR

ImageJ, its patcher, SciJava and ImgLib2 in it are real. The gateway net.imagej.ImageJ is a
SciJava gateway that prepares ImageJ as imagej-legacy does without a display, and the classes that
PyImageJ merely looks up when Java starts do nothing.
"""

import os
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import jpype

from fiji_poreseg import bridge

LOOKED_UP = [
    "net.imglib2.python.Helpers",
    "net.imglib2.python.ReferenceGuardingRandomAccessibleInterval",
    *(
        f"net.imglib2.cache.ref.{kind}LoaderCache"
        for kind in ("BoundedSoftRef", "GuardedStrongRef", "SoftRef", "WeakRef")
    ),
]
HOLDER = "net.imglib2.python.ReferenceGuardingRandomAccessibleInterval$ReferenceHolder"
CONVERSIONS = [f"net.imglib2.python.NumpyToImgLibConversions{kind}" for kind in ("", "WithStride")]
TYPES = "Float Double NativeBool Byte Short Int Long ComplexFloat ComplexDouble"
TYPES += " UnsignedByte UnsignedShort UnsignedInt UnsignedLong"


def main(folder: Path) -> None:
    java = bridge.start(engine="embedded").java
    jars = folder / "jars"
    jars.mkdir(parents=True)
    (folder / "plugins").mkdir()
    class_path = str(java("java.lang.System").getProperty("java.class.path"))
    for element in class_path.split(os.pathsep):
        if element.endswith(".jar") and "jpype" not in Path(element).name:
            shutil.copy(element, jars)
    pool = java("javassist.ClassPool")(True)
    looked_up = [pool.makeClass(name) for name in LOOKED_UP + CONVERSIONS]
    for made in looked_up[len(LOOKED_UP) :]:
        for name in TYPES.split():
            source = f"public static void to{name}() {{}}"
            made.addMethod(java("javassist.CtNewMethod").make(source, made))
    looked_up.append(pool.makeInterface(HOLDER))
    write_jar(jars / "imglib2-imglyb-0.jar", looked_up)
    gateway = pool.makeClass("net.imagej.ImageJ", pool.get("org.scijava.AbstractGateway"))
    gateway.makeClassInitializer().setBody("net.imagej.patcher.LegacyInjector.preinit();")
    constructor = """public ImageJ() {
        super("a gateway", new org.scijava.Context());
        ij.IJ.runPlugIn("ij.IJ.init", "");
    }"""
    gateway.addConstructor(java("javassist.CtNewConstructor").make(constructor, gateway))
    method = 'public String getShortName() { return "ij"; }'
    gateway.addMethod(java("javassist.CtNewMethod").make(method, gateway))
    write_jar(jars / "imagej-2.0.0.jar", [gateway])


def write_jar(path: Path, classes: list[jpype.JObject]) -> None:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(path, "w") as jar:
        for each in classes:
            each.writeFile(folder)
        for file in sorted(Path(folder).rglob("*.class")):
            jar.write(file, file.relative_to(folder).as_posix())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    bridge.shutdown()
