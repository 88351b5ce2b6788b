// batch.ijm: segments every TIFF of a folder with one model, and tabulates the porosity.
//
// The argument is FOLDER|MODEL|OUTPUT, or FOLDER|MODEL|OUTPUT|OPTIONS, where OPTIONS are added to
// every run of PoreSeg Segment, such as   nodata=0 voxel_size_nm=20,10,10
//   FOLDER  holds the stacks, *.tif
//   MODEL   a .poreseg file
//   OUTPUT  a folder, made if need be: NAME-segmentation.tif of each NAME.tif, and porosity.csv
// It stops at the first stack that cannot be segmented; scripts/batch.py goes on after one.
//
// Run it without a display:   fiji-poreseg macro batch.ijm "stacks|resunet.poreseg|segmented"

arguments = split(getArgument(), "|");
if (arguments.length < 3) exit("The argument must be FOLDER|MODEL|OUTPUT, but is: " + getArgument());
folder = arguments[0] + "/";
output = arguments[2] + "/";
options = "";
if (arguments.length > 3) options = " " + arguments[3];
if (!File.isDirectory(folder)) exit("FOLDER must be a folder, but is: " + folder);
File.makeDirectory(output);
setBatchMode(true);

table = "stack,porosity,pixels\n";
names = getFileList(folder);
for (i = 0; i < names.length; i++) {
	if (!endsWith(toLowerCase(names[i]), ".tif")) continue;
	name = substring(names[i], 0, lengthOf(names[i]) - 4);
	print("Segmenting " + names[i]);
	run("PoreSeg Segment", "image=[" + folder + names[i] + "] model=[" + arguments[1] + "] output=[" + output + name + "-segmentation.tif]" + options);

	// Results holds a row for each slice; the whole is their mean, weighted by their pixels.
	run("PoreSeg Measure", "");
	pore = 0;
	pixels = 0;
	for (row = 0; row < nResults; row++) {
		pore += getResult("porosity", row) * getResult("pixels", row);
		pixels += getResult("pixels", row);
	}
	table += "\"" + names[i] + "\"," + d2s(pore / pixels, 6) + "," + pixels + "\n";
	close("*");
}
if (table == "stack,porosity,pixels\n") exit("FOLDER must hold a .tif, but does not: " + folder);
File.saveString(table, output + "porosity.csv");
print("Done: " + output);
