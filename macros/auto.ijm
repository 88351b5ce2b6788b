// auto.ijm: from a few labels to a checked segmentation, with no hand in between.
//
// The argument is a folder that holds
//   stack.tif    the raw stack, its voxel size set (Image > Properties)
//   labels.zip   scribbles in pore and solid on some slices, from the ROI Manager; or labels.tif
// Models, segmentation and report.json are written to its folder "auto". Options may follow the
// folder after a "|", as the command takes them, for example: steps=400 anyway; and resume, to go
// on where it was killed, with the same labels.
//
// Run it without a display:   fiji-poreseg macro auto.ijm FOLDER

arguments = split(getArgument(), "|");
folder = arguments[0];
if (!endsWith(folder, "/")) folder = folder + "/";
options = "";
if (arguments.length > 1) options = " " + arguments[1];
labels = folder + "labels.zip";
if (!File.exists(labels)) labels = folder + "labels.tif";
setBatchMode(true);

open(folder + "stack.tif");
run("PoreSeg Auto", "labels=[" + labels + "] output=[" + folder + "auto]" + options);

// Results names the slices that are most worth labelling next.
next = "" + getResult("index", 0);
for (row = 1; row < nResults; row++) next = next + "," + getResult("index", row);
report = File.openAsString(folder + "auto/report.json");
if (indexOf(report, "\"trusted\": true") >= 0)
	print("It can be trusted: " + folder + "auto/segmentation.tif");
else
	print("Not to be trusted. Label some of these slices, and run it again: " + next);
