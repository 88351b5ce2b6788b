// Uses the plugins in ImageJ's window as a user does, and prints what is seen.
// Arguments: the folder of ImageJ, a stack, its labels, a file for the picture of a dialog.

import ij.IJ;
import ij.ImageJ;
import ij.Menus;
import ij.WindowManager;
import ij.gui.MultiLineLabel;
import ij.macro.MacroRunner;
import ij.measure.ResultsTable;
import ij.plugin.frame.Recorder;
import java.awt.*;
import java.awt.event.ActionEvent;
import java.awt.event.KeyEvent;
import java.io.File;
import java.lang.reflect.Field;
import java.util.function.Supplier;

public class Window {
	public static void main(String[] arguments) throws Exception {
		ImageJ.main(new String[] {"-ijpath", arguments[0], "-port0"});
		IJ.open(arguments[1]);

		Dialog dialog = choose("PoreSeg Train ResUNet");
		Rectangle bounds = dialog.getBounds();
		javax.imageio.ImageIO.write(
			new Robot().createScreenCapture(bounds), "png", new File(arguments[3]));
		System.out.println("height=" + bounds.height);
		press(dialog, "Cancel");

		Recorder recorder = new Recorder();
		dialog = choose("PoreSeg Select Slices");
		find(TextField.class, dialog, "20").setText("3");
		press(dialog, "OK");
		await(() -> ResultsTable.getResultsTable().size() == 3);
		System.out.println("rows=3");
		String line = (String) await(() -> recorder.getText().contains("run(") ? recorder.getText() : null);
		System.out.println("recorded=" + line.trim());
		recorder.close();

		dialog = choose("PoreSeg Select Slices");
		find(TextField.class, dialog, "20").setText("many");
		press(dialog, "OK");
		answerMessage("menu");

		macro("run('PoreSeg Select Slices', 'count=many'); print('AFTER')");
		answerMessage("macro");
		Thread.sleep(500);
		System.out.println("exception=" + (WindowManager.getWindow("Exception") != null));

		macro("run('PoreSeg Phantom', 'slices=4 size=32');");
		await(() -> WindowManager.getWindowCount() == 3);
		settle();
		System.out.println("shown=" + WindowManager.getImage(WindowManager.getNthImageID(2)).getTitle()
			+ ";" + WindowManager.getCurrentImage().getTitle() + " current");
		WindowManager.setCurrentWindow(WindowManager.getImage("stack.tif").getWindow());

		macro("run('PoreSeg Train Forest', 'labels=[" + arguments[2] + "] trees=10000'); print('AFTER')");
		await(() -> ImageJ.getStatusBarText().startsWith("Growing trees: "));
		KeyEvent escape = new KeyEvent(
			IJ.getInstance(), KeyEvent.KEY_PRESSED, 0, 0, KeyEvent.VK_ESCAPE, KeyEvent.CHAR_UNDEFINED);
		EventQueue.invokeAndWait(() -> IJ.getInstance().keyPressed(escape));
		Thread.sleep(3000);
		System.out.println("went on=" + IJ.getLog().contains("AFTER"));
		System.exit(0);
	}

	/** Choose a command from Plugins > PoreSeg, and answer with its dialog. */
	static Dialog choose(String command) throws Exception {
		MenuItem item = item(Menus.getImageJMenu("Plugins>PoreSeg"), command);
		ActionEvent event = new ActionEvent(item, ActionEvent.ACTION_PERFORMED, command);
		EventQueue.invokeAndWait(() -> IJ.getInstance().actionPerformed(event));
		return (Dialog) await(() -> shown(command));
	}

	static MenuItem item(Menu menu, String label) {
		for (int i = 0; i < menu.getItemCount(); i++)
			if (menu.getItem(i).getLabel().equals(label)) return menu.getItem(i);
		throw new IllegalStateException("no " + label + " in the menu");
	}

	/** Print the message that is shown, and press OK. */
	static void answerMessage(String name) throws Exception {
		Dialog dialog = (Dialog) await(() -> shown("PoreSeg Select Slices"));
		Component label = ((Container) dialog.getComponent(0)).getComponent(0);
		Field lines = MultiLineLabel.class.getDeclaredField("lines");
		lines.setAccessible(true);
		System.out.println(name + "=" + String.join(" ", (String[]) lines.get(label)));
		press(dialog, "OK");
	}

	static void macro(String text) {
		new MacroRunner(text);
	}

	static Dialog shown(String title) {
		for (java.awt.Window window : java.awt.Window.getWindows())
			if (window instanceof Dialog && window.isShowing() && ((Dialog) window).getTitle().equals(title))
				return (Dialog) window;
		return null;
	}

	static void press(Dialog dialog, String label) throws Exception {
		Button button = find(Button.class, dialog, label);
		ActionEvent event = new ActionEvent(button, ActionEvent.ACTION_PERFORMED, label);
		EventQueue.invokeAndWait(() -> button.dispatchEvent(event));
		await(() -> dialog.isShowing() ? null : dialog);
	}

	static <T extends Component> T find(Class<T> kind, Container container, String text) {
		for (Component component : container.getComponents()) {
			String found = component instanceof Button ? ((Button) component).getLabel()
				: component instanceof TextField ? ((TextField) component).getText() : null;
			if (kind.isInstance(component) && text.equals(found == null ? null : found.trim()))
				return kind.cast(component);
			if (component instanceof Container) {
				T inner = find(kind, (Container) component, text);
				if (inner != null) return inner;
			}
		}
		return null;
	}

	/** Wait until the current image has stayed the same for a second: without a window manager the
		focus goes to and fro between windows that have just opened. */
	static void settle() throws Exception {
		int[] seen = {0, 0};
		await(() -> {
			int current = WindowManager.getCurrentImage().getID();
			seen[1] = current == seen[0] ? seen[1] + 1 : 0;
			seen[0] = current;
			return seen[1] == 10;
		});
	}

	static Object await(Supplier<Object> wanted) throws Exception {
		for (int i = 0; i < 400; i++) {
			Object found = wanted.get();
			if (found != null && !found.equals(false)) return found;
			Thread.sleep(100);
		}
		throw new IllegalStateException("waited in vain");
	}
}
