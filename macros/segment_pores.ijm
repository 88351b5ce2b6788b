// segment_pores.ijm: the whole way from a raw FIB-SEM stack to a segmentation and its porosity.
//
// The argument is a folder that holds
//   stack.tif        the raw stack, its voxel size set (Image > Properties)
//   labels.tif       some pixels of a few slices: 0 unlabelled, 1 pore, 2 solid; or labels.zip, ROIs
//   corrections.tif  what the hand corrects in the forest's segmentation: 0 leaves a pixel as it is
//   truth.tif        optional: slices whose segmentation is known, for the scores
// Everything that is made is written to the same folder. Options may follow the folder after a
// "|": count (slices to train the ResUNet on), steps (its training), seed.
//
// Run it without a display:   fiji-poreseg macro segment_pores.ijm FOLDER

arguments = split(getArgument(), "|");
folder = arguments[0];
if (!endsWith(folder, "/")) folder = folder + "/";
count = option(arguments, 1, "10");
steps = option(arguments, 2, "400");
seed = option(arguments, 3, "0");
labels = folder + "labels.tif";
if (!File.exists(labels)) labels = folder + "labels.zip";
setBatchMode(true);

// 1. ImageJ's own corrections: curtains out by FFT, each slice to the same brightness.
open(folder + "stack.tif");
rename("raw");
run("Duplicate...", "title=stack duplicate");
run("Bandpass Filter...", "filter_large=1000 filter_small=0 suppress=Vertical tolerance=5 process");
run("Enhance Contrast...", "saturated=0.1 normalize process_all");

// 2. The forest, from a few labelled pixels.
run("PoreSeg Train Forest", "image=stack labels=[" + labels + "] model=[" + folder + "forest.poreseg] seed=" + seed);
run("PoreSeg Segment", "image=stack model=[" + folder + "forest.poreseg] output=[" + folder + "forest-segmentation.tif] probability=[" + folder + "forest-probability.tif]");
rename("forest");
selectImage("stack-probability");
rename("forest-probability");

// 3. The hand: pore-backs that the forest took for solid, and what else it got wrong.
run("PoreSeg Correct", "image=forest corrections=[" + folder + "corrections.tif] output=[" + folder + "corrected.tif] json=[" + folder + "corrections.json]");

// 4. Which of the corrected slices the network is to learn from.
run("PoreSeg Select Slices", "image=stack strategy=distributed count=" + count);
indices = "" + getResult("index", 0);
for (row = 1; row < nResults; row++) indices = indices + "," + getResult("index", row);

// 5. The network, and its segmentation.
run("PoreSeg Train ResUNet", "image=stack labels=forest-corrected indices=" + indices + " steps=" + steps + " seed=" + seed + " model=[" + folder + "resunet.poreseg]");
run("PoreSeg Segment", "image=stack model=[" + folder + "resunet.poreseg] output=[" + folder + "resunet-segmentation.tif] probability=[" + folder + "resunet-probability.tif]");

// 6. Scores, on slices that the network was not trained on, at the paper's places in the stack.
if (File.exists(folder + "truth.tif")) {
	n = nSlices;
	scored = "" + untrained(0.08 * (n - 1)) + "," + untrained(0.72 * (n - 1)) + "," + untrained(0.998 * (n - 1));
	options = " truth=[" + folder + "truth.tif] stack=raw indices=" + scored;
	run("PoreSeg Evaluate", "image=forest probability=forest-probability json=[" + folder + "forest-scores.json]" + options);
	run("PoreSeg Evaluate", "image=stack-segmentation probability=stack-probability json=[" + folder + "resunet-scores.json]" + options);
}

// 7. The porosity of each slice, and of the whole.
run("PoreSeg Measure", "image=stack-segmentation json=[" + folder + "porosity.json]");
print("Done: " + folder);

function option(list, position, otherwise) {
	if (list.length > position) return list[position];
	return otherwise;
}

// The slice nearest to a place, below or above it, that the network was not trained on.
function untrained(place) {
	index = round(place);
	step = 1;
	if (index >= nSlices - 1) step = -1;
	while (indexOf("," + indices + ",", "," + index + ",") >= 0) index = index + step;
	if (index < 0 || index >= nSlices) exit("Every slice was trained on: choose fewer with count.");
	return index;
}
