// prepare.ijm: from raw FIB-SEM slices to a stack that can be segmented.
//
// The argument is INPUT|OUTPUT, and after it any of the options below as |key=value.
//   INPUT                  a TIFF, a folder of slices (in the order of the numbers in their names),
//                          or any other file that ImageJ or, in a Fiji, Bio-Formats opens; 8 or 16 bit
//   OUTPUT                 the TIFF to write, another file than INPUT
//   voxel_size_nm=z,y,x    the voxel size, where the file's own is missing or wrong
//   crop=x,y,width,height  keep this part of every slice, say all but the data bar
//   crop=border            cut off the margin that is black (0) in every slice
//   destripe=vertical      filter curtains out of every slice: vertical, horizontal or no
//   brightness=yes         stretch every slice to the same range of greys: yes or no
//   contrast=no            raise the local contrast: yes or no. It moves the greys, by which a
//                          pore-back is told from solid: compare the scores before you keep it
//   align=auto             sift, translation, no, or auto: sift where the Fiji has it
//   max_shift=20           for translation: how many pixels neighbouring slices may lie apart
// What stands after = above is what is done by default; crop and voxel_size_nm have none.
//
// Bit depth, voxel size and slice labels stay. With sift or translation, 0 means "no data" in the
// result, and the log says whether there is any. The log also says what did each step, since a
// Fiji has plugins that ImageJ alone has not.
//
// Run it without a display:   fiji-poreseg macro prepare.ijm "raw.tif|stack.tif|crop=0,0,2048,1768"

var arguments = split(getArgument(), "|");
var keys = newArray("voxel_size_nm", "crop", "destripe", "brightness", "contrast", "align", "max_shift");

// 0. What is asked for, checked before anything is done.
if (arguments.length < 2) exit("The argument must be INPUT|OUTPUT, but is: " + getArgument());
input = arguments[0];
output = arguments[1];
if (!File.exists(input)) exit("INPUT must exist, but is: " + input);
if (!endsWith(output, ".tif")) exit("OUTPUT must end in .tif, but is: " + output);
folder = File.getDirectory(output);
if (folder != "" && !File.isDirectory(folder)) exit("OUTPUT must be in a folder that exists, but is: " + output);
if (output == input) exit("OUTPUT must not be INPUT, or the raw data would be lost: " + output);
for (i = 2; i < arguments.length; i++) check(arguments[i]);
voxelSize = numbers("voxel_size_nm", 3);
for (i = 0; i < voxelSize.length; i++) if (voxelSize[i] <= 0) exit("voxel_size_nm must be above 0, but is: " + voxelSize[i]);
wanted = option("crop", "");
crop = newArray(0);
if (wanted != "border") crop = numbers("crop", 4);
destripe = choice("destripe", newArray("vertical", "horizontal", "no"));
brightness = choice("brightness", newArray("yes", "no"));
contrast = choice("contrast", newArray("no", "yes"));
align = choice("align", newArray("auto", "sift", "translation", "no"));
reach = option("max_shift", "20");
maxShift = parseInt(reach);
if (isNaN(maxShift) || maxShift < 1) exit("max_shift must be a whole number from 1, but is: " + reach);
hasSift = has("Linear Stack Alignment with SIFT");
if (align == "sift" && !hasSift) exit("align=sift needs a Fiji with that plugin. Leave align out for ImageJ's own.");
setBatchMode(true);

// 1. Import.
useBioFormats = has("Bio-Formats Importer");
if (isTiff(input)) useBioFormats = false;
if (File.isDirectory(input)) {
	File.openSequence(input);
	print("Import: a folder of slices, by ImageJ");
} else if (useBioFormats) {
	run("Bio-Formats Importer", "open=[" + input + "] autoscale color_mode=Default view=Hyperstack stack_order=XYCZT");
	print("Import: by Bio-Formats");
} else {
	open(input);
	print("Import: by ImageJ");
}
rename(File.getName(input));
getDimensions(width, height, channels, slices, frames);
if (slices == 1 && frames > 1 && channels == 1) Stack.setDimensions(1, frames, 1);
if (channels > 1 || bitDepth() > 16) exit("INPUT must hold grey values of one detector, 8 or 16 bit. Use Image > Color > Split Channels or Image > Type first.");
if (nSlices < 2) exit("INPUT must hold at least two slices.");

// 2. Voxel size.
if (voxelSize.length > 0) setVoxelSize(voxelSize[2], voxelSize[1], voxelSize[0], "nm");
getVoxelSize(voxelWidth, voxelHeight, voxelDepth, unit);
print("Voxel size (z, y, x): " + voxelDepth + ", " + voxelHeight + ", " + voxelWidth + " " + unit);

// 3. Data bar and black margin off, before they can mislead what follows.
if (wanted == "border") crop = inside();
if (crop.length > 0) {
	if (crop[0] < 0 || crop[1] < 0 || crop[2] < 1 || crop[3] < 1 || crop[0] + crop[2] > getWidth() || crop[1] + crop[3] > getHeight())
		exit("crop must lie inside the slices of " + getWidth() + " x " + getHeight() + " pixels, but is: " + wanted);
	makeRectangle(crop[0], crop[1], crop[2], crop[3]);
	run("Crop");
	print("Crop: to " + getWidth() + " x " + getHeight() + " pixels");
}

// 4. Curtains. They are a streak in the Fourier transform; no size of structure is filtered out.
if (destripe != "no") {
	run("Bandpass Filter...", "filter_large=" + 10 * maxOf(getWidth(), getHeight()) + " filter_small=0 suppress=" + firstUpper(destripe) + " tolerance=5 process");
	print("Curtains: " + destripe + " ones filtered out by ImageJ's Bandpass Filter");
}

// 5. Brightness, slice by slice.
if (brightness == "yes") {
	run("Enhance Contrast...", "saturated=0.35 normalize process_all");
	print("Brightness: every slice stretched by ImageJ's Enhance Contrast");
}

// 6. Contrast. Either command works on the slice shown.
if (contrast == "yes") {
	hasClahe = has("Enhance Local Contrast (CLAHE)");
	for (slice = 1; slice <= nSlices; slice++) {
		setSlice(slice);
		if (hasClahe) run("Enhance Local Contrast (CLAHE)", "blocksize=127 histogram=256 maximum=3 mask=*None* fast_(less_accurate)");
		else run("Enhance Contrast...", "saturated=0 equalize");
	}
	if (hasClahe) print("Contrast: local, by CLAHE");
	else print("Contrast: not local, the histogram of every slice equalised by ImageJ's Enhance Contrast: no CLAHE here");
}

// 7. Alignment comes last, so that no filter sees the empty pixels that it leaves.
if (align == "auto") {
	align = "sift";
	if (!hasSift) {
		align = "translation";
		print("No Linear Stack Alignment with SIFT here");
	}
}
if (align == "no") {
	print("Alignment: none");
} else {
	run("Min...", "value=1 stack");
	labels = sliceLabels();
	if (align == "sift") alignWithSift();
	else alignByTranslation(destripe, maxShift);
	setVoxelSize(voxelWidth, voxelHeight, voxelDepth, unit);
	for (slice = 1; slice <= nSlices; slice++) if (labels[slice - 1] != "") Property.setSliceLabel(labels[slice - 1], slice);
	Stack.getStatistics(voxels, mean, least);
	if (least == 0) print("Some pixels hold no data and are 0: give nodata=0 to the PoreSeg commands that train or segment");
}

setSlice(1);
saveAs("Tiff", output);
print("Done: " + output);

// The plugin matches features of each slice to those of the slice before.
function alignWithSift() {
	run("Linear Stack Alignment with SIFT", "initial_gaussian_blur=1.60 steps_per_scale_octave=3 minimum_image_size=64 maximum_image_size=1024 feature_descriptor_size=4 feature_descriptor_orientation_bins=8 closest/next_closest_ratio=0.92 maximal_alignment_error=25 inlier_ratio=0.05 expected_transformation=Translation interpolate");
	print("Alignment: by Linear Stack Alignment with SIFT, translation");
}

// Shifts each slice to where it correlates best with the slice before, in whole pixels, so that no
// grey is interpolated. The first slice stays. Like all that goes from slice to slice, it takes a
// structure that runs aslant through the whole stack for drift.
function alignByTranslation(stripes, maxShift) {
	stack = getImageID();
	x = 0;
	y = 0;
	largest = 0;
	edges(stack, 1, stripes);
	rename("before");
	for (slice = 2; slice <= nSlicesOf(stack); slice++) {
		edges(stack, slice, stripes);
		rename("here");
		run("FD Math...", "image1=before operation=Correlate image2=here result=correlation do");
		shift = peak(maxShift);
		close("correlation");
		close("before");
		selectImage("here");
		rename("before");
		// Fractions are summed and only the sum is rounded, or the rounding would add up.
		x += shift[0];
		y += shift[1];
		largest = maxOf(largest, maxOf(abs(round(x)), abs(round(y))));
		selectImage(stack);
		setSlice(slice);
		run("Translate...", "x=" + round(x) + " y=" + round(y) + " interpolation=None slice");
		print("Slice " + slice + " shifted by " + round(x) + ", " + round(y) + " pixels (x, y)");
	}
	close("before");
	selectImage(stack);
	print("Alignment: ImageJ's own, translation by correlation, at most " + largest + " pixels");
}

// The middle of a slice with only its edges left: no shading, no stripes, a mean of 0, on a square
// whose side is a power of 2 as the correlation needs it, of at most 1024 pixels to keep it fast.
function edges(stack, slice, stripes) {
	selectImage(stack);
	setSlice(slice);
	side = 64;
	while (side < maxOf(getWidth(), getHeight()) && side < 1024) side *= 2;
	width = minOf(side, getWidth());
	height = minOf(side, getHeight());
	makeRectangle(floor((getWidth() - width) / 2), floor((getHeight() - height) / 2), width, height);
	run("Duplicate...", "title=edges");
	run("32-bit");
	suppress = "None";
	if (stripes != "no") suppress = firstUpper(stripes);
	run("Bandpass Filter...", "filter_large=40 filter_small=3 suppress=" + suppress + " tolerance=5");
	getStatistics(area, mean);
	run("Subtract...", "value=" + mean);
	run("Canvas Size...", "width=" + side + " height=" + side + " position=Center zero");
	selectImage(stack);
	run("Select None");
	selectImage("edges");
}

// Where the current image, a correlation, is largest, from its centre, to a fraction of a pixel.
function peak(maxShift) {
	centre = getWidth() / 2;
	reach = minOf(maxShift, centre - 2);
	best = -1e30;
	for (j = centre - reach; j <= centre + reach; j++) {
		for (i = centre - reach; i <= centre + reach; i++) {
			if (getPixel(i, j) > best) {
				best = getPixel(i, j);
				x = i;
				y = j;
			}
		}
	}
	return newArray(
		x - centre + vertex(getPixel(x - 1, y), best, getPixel(x + 1, y)),
		y - centre + vertex(getPixel(x, y - 1), best, getPixel(x, y + 1)));
}

// Where the parabola through three neighbouring values is largest, from the middle one.
function vertex(left, middle, right) {
	return maxOf(-0.5, minOf(0.5, (left - right) / (2 * (left - 2 * middle + right))));
}

// The smallest rectangle that holds every pixel that is not black in every slice.
function inside() {
	stack = getImageID();
	run("Z Project...", "projection=[Max Intensity]");
	setThreshold(1, 65535);
	run("Create Selection");
	if (selectionType() < 0) exit("crop=border needs pixels that are not black, but all are 0.");
	getSelectionBounds(x, y, width, height);
	close();
	selectImage(stack);
	return newArray(x, y, width, height);
}

function sliceLabels() {
	labels = newArray(nSlices);
	for (i = 0; i < nSlices; i++) labels[i] = Property.getSliceLabel(i + 1);
	return labels;
}

function nSlicesOf(stack) {
	selectImage(stack);
	return nSlices;
}

// Whether this ImageJ has a command: the way to find out for any plugin.
function has(command) {
	List.setCommands;
	return (lengthOf(List.get(command)) > 0);
}

function isTiff(path) {
	name = toLowerCase(path);
	return ((endsWith(name, ".tif") || endsWith(name, ".tiff")) && !endsWith(name, ".ome.tif"));
}

function firstUpper(word) {
	return toUpperCase(substring(word, 0, 1)) + substring(word, 1);
}

// Refuses an argument that is not key=value with a key from the list above.
function check(argument) {
	for (k = 0; k < keys.length; k++) if (startsWith(argument, keys[k] + "=")) return;
	exit("An option must be key=value with one of the keys " + String.join(keys, ", ") + ", but is: " + argument);
}

function option(key, otherwise) {
	for (k = 2; k < arguments.length; k++) if (startsWith(arguments[k], key + "=")) return substring(arguments[k], lengthOf(key) + 1);
	return otherwise;
}

// One of some words, by default the first.
function choice(key, words) {
	given = option(key, words[0]);
	for (k = 0; k < words.length; k++) if (given == words[k]) return given;
	exit(key + " must be one of " + String.join(words, ", ") + ", but is: " + given);
}

// As many numbers as asked for, with commas between them; none where the key is not given.
function numbers(key, count) {
	given = option(key, "");
	if (given == "") return newArray(0);
	found = split(given, ",");
	for (k = 0; k < found.length; k++) found[k] = parseFloat(found[k]);
	if (found.length != count) exit(key + " must be " + count + " numbers with commas between them, but is: " + given);
	for (k = 0; k < count; k++) if (isNaN(found[k])) exit(key + " must be " + count + " numbers with commas between them, but is: " + given);
	return found;
}
